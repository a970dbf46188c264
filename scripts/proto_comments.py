"""Print the comments of the .proto files in a descriptor set as a Python module; called by scripts/proto."""

import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet, SourceCodeInfo

SHOWN = ("zitadel", "mailward")  # Packages that OpenAPI documents.


def named(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield (path in SourceCodeInfo, full name) of the services, methods, messages and fields of `file`."""
    for at, service in enumerate(file.service):
        yield (6, at), f"{file.package}.{service.name}"
        for inner, method in enumerate(service.method):
            yield (6, at, 2, inner), f"{file.package}.{service.name}.{method.name}"
    for at, message in enumerate(file.message_type):
        yield from within((4, at), message, file.package)


def within(path: tuple[int, ...], message: DescriptorProto, scope: str) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{scope}.{message.name}"
    yield path, name
    for at, field in enumerate(message.field):
        yield (*path, 2, at), f"{name}.{field.name}"
    for at, nested in enumerate(message.nested_type):
        yield from within((*path, 3, at), nested, name)


def text_of(location: SourceCodeInfo.Location) -> str:
    """Return the comment with one line for each paragraph."""
    paragraphs = (location.leading_comments or location.trailing_comments).strip().split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in paragraph.splitlines()) for paragraph in paragraphs)


def main() -> None:
    found: dict[str, str] = {}
    for file in FileDescriptorSet.FromString(Path(sys.argv[1]).read_bytes()).file:
        if not file.package.startswith(SHOWN):
            continue
        comments = {tuple(at.path): text for at in file.source_code_info.location if (text := text_of(at))}
        found |= {name: comments[path] for path, name in named(file) if path in comments}
    print('"""What the .proto files say about services, methods, messages and fields, by full name."""\n')
    print("COMMENTS: dict[str, str] = {")
    for name in sorted(found):
        print(f"    {name!r}: {found[name]!r},")
    print("}")


main()
