"""What runs far away, as one program: these modules, one after another (see ``..program``).

The oldest Python that it runs on is 3.6, with the standard library alone. Annotations are not
part of the program; everything else has to be of that language.
"""
