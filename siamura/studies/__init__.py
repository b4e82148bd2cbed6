"""What is on disk, as a table with one row a view.

A table is a plain :class:`pandas.DataFrame` with the columns ``path`` (str, absolute), ``part`` (str),
``patient`` (str), ``study`` (str), ``label`` (int64, 1 = abnormal) and ``split`` (str). A study is named by
(part, patient, study) together; a patient is the same person whatever the part.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
