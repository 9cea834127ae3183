"""The desk's own pages: the tickets, and a view that has one answered and streams how that goes."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from agentkit import Run
from agentkit.django import sse_response
from tickets.agents import kit
from tickets.models import Ticket

__all__ = ["draft", "tickets"]


@login_required
def tickets(request: HttpRequest) -> HttpResponse:
    """List the tickets, and the runs that wait for the staff, of those that the user may read."""
    user = request.user.get_username()
    listed = Ticket.objects.order_by("pk").prefetch_related("replies")
    waiting, _ = kit.page(status="paused", limit=50, where=lambda run: kit.permits(user, "read", run))
    return render(request, "tickets/tickets.html", {"tickets": listed, "waiting": waiting})


@require_POST
@login_required
@transaction.non_atomic_requests  # a stream is open for longer than a transaction should be
def draft(request: HttpRequest, number: int) -> HttpResponseBase:
    """Start a run about a ticket, and stream it until it waits for the staff or ends."""
    ticket = get_object_or_404(Ticket, pk=number, is_open=True)

    def permit(run: Run) -> None:  # what is called from Python is asked nothing else
        if not kit.permits(request.user.get_username(), "start", run):
            raise PermissionDenied

    text = f"Please reply to ticket {ticket.pk}."
    handle = kit.start("desk", text, owner=request.user.get_username(), metadata={"ticket": ticket.pk}, permit=permit)
    return sse_response(request, handle)
