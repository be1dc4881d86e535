"""The inner loops of the codecs, with one signature in three modules: ``compiled`` (CPU), ``gpu`` (Triton), ``plain``
(the twin)."""
