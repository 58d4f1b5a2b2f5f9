"""What there is to see when a test fails, in one folder per test.

::

    FOLDER/<test>/
        summary.txt             what failed, the last command and lines of each machine, how to run
                                it again, what was kept
        summary.json            the same, for programs: test, phase, times, environments, machines,
                                files, what is missing
        error.txt               what pytest shows
        events.txt              how the environments came to be
        <environment>/
            graph.txt  graph.mmd  graph.svg
            gates.json          where there were gates: who, to where, when, what passed
            faults.json         faults that were in force during the test, with their times
            packets.pcapng      what went over its networks (--carthage-pcap)
            ansible-*.log       what Ansible printed
            fabric.log  supervisor.log      where those who hold it had something to say
            <machine>/
                log.txt         the main process's output during the test, or what the serial
                                console printed, where it has one
                screen.png      what its screen showed, where it has one
                journal.txt     where systemd is the init
                addresses.txt  routes.txt  listening.txt  processes.txt  observed.json
                commands.txt  commands.json     what the test ran here, with output and times

Collecting never raises for one machine's sake: what could not be had is named in the summary.
Folders and files are their owner's alone, whatever the umask.
"""

from __future__ import annotations

from pytest_carthage.report.bundle.shelf import FORMAT, Bundle, Failure, Shelf, folder_name, prune

__all__ = ["FORMAT", "Bundle", "Failure", "Shelf", "folder_name", "prune"]
