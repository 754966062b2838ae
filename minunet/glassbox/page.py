"""The page: modules, style and contents in one HTML file that asks no network for anything."""

from pathlib import Path

MODULES = Path(__file__).with_name("js")
