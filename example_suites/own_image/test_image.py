from dataclasses import dataclass

from pytest_carthage import Image, Role, filesystem_task


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeter(Role):
    packages = ("figlet",)
    text: str = "hello"

    @filesystem_task("write the greeting")
    async def write(self, fs):
        await fs.run(f"figlet {self.text} > /etc/motd")


greeter = Image.debian("bookworm").with_(Greeter(text="branch")).fixture()


def test_image_greets(greeter):
    assert "figlet" in greeter.packages
    assert len(greeter.read_text("/etc/motd").splitlines()) > 3


def test_last_layer_is_the_last_task(greeter):
    assert greeter.layers[-1].meta.title == "write the greeting"
