"""Writes modules/<product>/go.mod and go.sum from versions.toml: `python -m tests.cluster.modules [PRODUCT...]`.

One wrapper module per product, since one module for all would give all of them one version of the k8s.io libraries.
"""

import json
import shutil
import sys
from pathlib import Path

from tests.cluster.toolchain import ToolchainError, run_go
from tests.cluster.versions import GO_MINIMUM, PRODUCTS, Product


def write_wrapper(product: Product) -> None:
    """Write the product's go.mod and go.sum anew; raises ToolchainError when a module cannot be had."""
    folder = product.wrapper
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(f"module radiffuse.test/{product.name}\n\ngo {GO_MINIMUM}\n", encoding="utf-8")
    tools = [f"-tool={binary.package}" for binary in product.binaries]
    run_go(["mod", "edit", f"-require={product.module}@{product.version}", *tools, *_replacements(product)], folder)
    if not product.binaries:
        run_go(["mod", "download", product.module], folder)  # `tidy` would drop what no package is taken from
    elif product.tags:
        # `tidy` looks at the packages of all tags, some of which no proxy serves.
        run_go(
            ["list", "-mod=mod", f"-tags={product.tags}", "-deps", *(each.package for each in product.binaries)], folder
        )
    else:
        run_go(["mod", "tidy"], folder)


def _replacements(product: Product) -> list[str]:
    """Kubernetes' own go.mod takes its libraries from folders of its repository, which a dependent must not."""
    if product.staging is None:
        return []
    about = json.loads(run_go(["mod", "download", "-json", f"{product.module}@{product.version}"], product.wrapper))
    go_mod = json.loads(run_go(["mod", "edit", "-json", about["GoMod"]], Path(about["Dir"])))
    names = [rule["Old"]["Path"] for rule in go_mod["Replace"] if rule["New"]["Path"].startswith("./")]
    return [f"-replace={name}={name}@{product.staging}" for name in names]


def main() -> int:
    """Write the wrappers of the products named, or of all."""
    for name in sys.argv[1:] or PRODUCTS:
        print(f"{name} {PRODUCTS[name].version}", flush=True)
        try:
            write_wrapper(PRODUCTS[name])
        except ToolchainError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
