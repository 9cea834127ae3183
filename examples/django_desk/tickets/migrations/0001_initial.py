"""The tables, as `python manage.py makemigrations` wrote them."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Day",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("open", models.PositiveIntegerField()),
                ("counted", models.PositiveIntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Reply",
            fields=[
                ("key", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("text", models.TextField()),
                ("approved_by", models.CharField(max_length=150)),
            ],
        ),
        migrations.CreateModel(
            name="Ticket",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.EmailField(max_length=254)),
                ("subject", models.CharField(max_length=200)),
                ("text", models.TextField()),
                ("is_open", models.BooleanField(default=True)),
            ],
        ),
        migrations.CreateModel(
            name="Mail",
            fields=[
                (
                    "reply",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        serialize=False,
                        to="tickets.reply",
                    ),
                ),
                ("to", models.EmailField(max_length=254)),
                ("text", models.TextField()),
            ],
        ),
        migrations.AddField(
            model_name="reply",
            name="ticket",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="replies", to="tickets.ticket"
            ),
        ),
    ]
