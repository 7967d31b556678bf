"""A Django application: `INSTALLED_APPS += ["reindexer.django"]`.

It adds the command `manage.py reindexer`, and a check of the triggers on the tables of models. `marked` needs no
application:

    with transaction.atomic():
        with marked() as mark:
            Product.objects.create(name="Fjord")
    client.wait(mark.token)
"""

from __future__ import annotations

from reindexer.core.transaction_mark import Mark
from reindexer.django.marks import marked

__all__ = ["Mark", "marked"]
