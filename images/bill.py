"""The bill of materials of an image, in CycloneDX, and the list of its licences for people."""

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from images.commands import ImageError
from images.contents import Contents, Package


def bill_of_materials(name: str, version: str, digest: str, contents: Contents) -> str:
    """CycloneDX 1.6 as JSON: the image, and every package in it; raises ImageError when it breaks its own schema."""
    bom = Bom()
    image = Component(
        name=name, type=ComponentType.CONTAINER, version=version, purl=PackageURL("oci", None, name, digest)
    )
    bom.metadata.component = image
    bom.components.update(_component(package, contents.distribution) for package in contents.packages())
    bom.register_dependency(image, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise ImageError(f"the bill of materials of {name} breaks the schema of CycloneDX: {error}")
    return text


def licence_list(name: str, version: str, contents: Contents) -> str:
    """A Markdown table of all packages with the licences that they state."""
    packages = contents.packages()
    rows = [f"| {each.name} | {each.version} | {each.kind} | {each.licence} |" for each in packages]
    count = f"{len(packages)} packages, with the licence that each states itself; `deb` are Debian's, `pypi` Python's."
    head = ["| package | version | kind | licence |", "|---|---|---|---|"]
    return "\n".join([f"# Licences in {name} {version}", "", count, "", *head, *rows, ""])


def _component(package: Package, distribution: str) -> Component:
    qualifiers = {"arch": package.architecture, "distro": distribution} if package.kind == "deb" else {}
    namespace = distribution.partition("-")[0] if package.kind == "deb" else None
    licences = LicenseFactory()
    names = package.licence.split(", ") if package.kind == "deb" else [package.licence]
    stated = (
        [licences.make_with_name(each) for each in names] if len(names) > 1 else [licences.make_from_string(names[0])]
    )
    return Component(
        name=package.name,
        version=package.version,
        purl=PackageURL(package.kind, namespace, package.name, package.version, qualifiers),
        licenses=stated,
        bom_ref=f"{package.kind}:{package.name}@{package.version}",
    )
