"""A live machine's screen, keyboard and serial console."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
from pathlib import Path

from pytest_carthage.bridge import operation
from pytest_carthage.errors import FabricError, HostError
from pytest_carthage.live.machines.core import MachineCore
from pytest_carthage.provider import Console, Reads, Screen
from pytest_carthage.screens.keys import chords, typed
from pytest_carthage.screens.recognition import lacks, recognise

__all__ = ["ScreenOperations"]

#: pictures whose texts are remembered: a cursor that blinks makes two of one screen
_REMEMBERED = 4


class ScreenOperations(MachineCore):
    """What a person does in front of a machine."""

    @operation
    async def screenshot(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """What is on the machine's screen now: a PNG file, its bytes.

        :param path: of a file of this host that it is written to, too.
        :raises UnsupportedError: it has no screen.
        :raises FabricError: it is off.
        """
        picture = await self._screen("screenshot()").screenshot()
        if path is not None:
            await asyncio.to_thread(Path(path).write_bytes, picture)
        return picture

    @operation
    async def screen_text(self) -> str:
        """The text on the machine's screen, line by line, as far as tesseract(1) recognises it.

        It takes about a second of a processor, or nothing where the screen is as it was.

        :raises HostError: tesseract is not installed here.
        :raises UnsupportedError: it has no screen.
        :raises FabricError: it is off.
        """
        screen = self._screen("screen_text()")
        if isinstance(screen, Reads):
            return await screen.screen_text()
        picture = await screen.screenshot()
        texts = self._screen_texts
        if picture not in texts:
            texts[picture] = await recognise(picture)
        texts.move_to_end(picture)
        while len(texts) > _REMEMBERED:
            texts.popitem(last=False)
        return texts[picture]

    @operation
    async def send_keys(self, text: str = "", *, keys: str = "", keymap: str = "us") -> None:
        """Type at the machine's keyboard: a text, then keys by their names.

        :param text: ``"\\n"`` is the enter key.
        :param keys: chords, one after the other: ``"ctrl-alt-f2"``, ``"down down enter"``; see
            :data:`pytest_carthage.screens.keys.KEYS`.
        :param keymap: that the machine has: ``"us"``, ``"gb"`` or ``"de"``.
        :raises ValueError: there is no such key, or none types one of the characters.
        :raises UnsupportedError: it has no keyboard.
        :raises FabricError: it is off.
        """
        try:
            pressed = [*typed(text, keymap), *chords(keys)]
        except ValueError as error:
            raise ValueError(f"{self._who}: send_keys(): {error}") from None
        await self._screen("send_keys()").press(pressed)

    @operation
    async def console(self, *, lines: int = 0) -> sockets.socket:
        """Attach to the machine's serial console: a blocking socket, which the caller closes.

        What the machine prints is received from it, what is sent is typed there. Others may be
        attached, too; what is printed is in the machine's log in any case.

        :param lines: of what was printed last, which come first.
        :raises UnsupportedError: it has no serial console.
        """
        self.require("console", "console()")
        assert isinstance(self._means, Console)
        attached = await self._means.attach(lines=lines)
        attached.socket.setblocking(True)
        return attached.socket

    def _refuse_to_recognise(self) -> None:
        """Refuse to wait for text that nobody recognises.

        :raises HostError: tesseract is not installed here.
        """
        problem = None if isinstance(self._means, Reads) else lacks()
        if problem is not None:
            raise HostError([problem])

    def _screen(self, use: str) -> Screen:
        self.require("screen", use)
        if self._stopped:
            raise FabricError(f"{self._who}: it is stopped, and its screen is dark; try: start()")
        assert isinstance(self._means, Screen)
        return self._means
