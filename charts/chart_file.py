"""Chart.yaml, whose version is the package's."""

import yaml

from radiffuse import __version__

CHART = {
    "apiVersion": "v2",
    "name": "radiffuse",
    "description": "Adapt Stable Diffusion to chest X-rays on Kubernetes: rights, settings, watching, and a first job.",
    "type": "application",
    "version": __version__,
    "appVersion": __version__,
    "kubeVersion": ">=1.30.0-0",
    "keywords": ["chest x-ray", "kubeflow", "latent diffusion", "pytorchjob", "stable diffusion", "training"],
}
ANNOTATIONS = {
    "artifacthub.io/category": "ai-machine-learning",
    "artifacthub.io/license": "Apache-2.0",
    "artifacthub.io/operator": "false",
    "artifacthub.io/prerelease": "false",
}


def chart_file() -> str:
    """The file's text."""
    head = "# Written by `make generate` from charts/chart_file.py.\n"
    images = "".join(
        f"- name: {name}\n  image: {name}:{__version__}\n" for name in ("radiffuse-train", "radiffuse-pipeline")
    )
    document = {**CHART, "annotations": ANNOTATIONS | {"artifacthub.io/images": images}}
    return head + yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)
