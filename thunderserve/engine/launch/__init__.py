"""From a plan to processes: ``plan`` says what each worker is to be, ``process`` runs one, ``launch`` all of them.

``service`` is everything together: workers, coordinator and the HTTP front.
"""
