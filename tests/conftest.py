"""What all tests share: a cache folder of their own, and statistical honesty about threads."""

import os
import tempfile

# Set before kb or torch is imported by any test: nobody's own cache is read or written.
os.environ["KB_CACHE"] = tempfile.mkdtemp(prefix="kb-cache-")
os.environ.pop("KB_NOTES", None)
