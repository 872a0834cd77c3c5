"""AIGQ: generative query recommendation, nearline. Dependencies are locked in requirements/, see the Makefile."""

from setuptools import find_packages, setup

PACKAGES = [
    "pipelines",
    "transforms",
    "interest",
    "inference",
    "store",
    "schemas",
    "training",
    "serving",
    "simulation",
    "local",
    "cli",
]

setup(
    name="aigq",
    version="0.1.0",
    description="Generative query recommendation: behaviour events in Kafka become each shopper's query list in a store",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    package_data={
        "schemas": ["*.avsc", "history/*.avsc"],
        "store": ["*.lua"],
        "simulation": ["*.json.gz"],
        "local": ["*.xml", "*.java", "*.txt"],
    },
    # What an s3:// archive needs besides: boto3, of the release range that Beam names.
    extras_require={"s3": ["apache-beam[aws]"]},
    entry_points={"console_scripts": ["aigq=cli:main"]},
)
