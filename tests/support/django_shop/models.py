"""Its one model."""

from __future__ import annotations

from django.db import models


class Product(models.Model):
    """What is sold; made by `create_tables`, not by a migration."""

    name = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)

    class Meta:
        app_label = "django_shop"
