"""This repository's tests on another kernel, that of a Debian, in a small virtual machine."""
