"""Readers of the official formats: plain or gzipped, checked before they are believed, never executed."""

from hyperverify.experiments.data.digits import Digits, mnist
from hyperverify.experiments.data.files import SourceFile

__all__ = ["Digits", "SourceFile", "mnist"]
