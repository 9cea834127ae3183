"""The project's URLs: its own pages, Django's logins, and agentkit's below /agents/."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.views import serve
from django.urls import include, path

from agentkit.django import urls as agent_urls
from tickets import views
from tickets.agents import kit

urlpatterns = [
    path("", views.tickets, name="tickets"),
    path("tickets/<int:number>/draft/", views.draft, name="draft"),
    path("agents/", include(agent_urls(kit))),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    # Good enough for an example; in production it is a web server's matter.
    path("static/<path:path>", serve, {"insecure": True}),
]
