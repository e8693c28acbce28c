"""The routes that tell of the worker, and of themselves. Called by `documenting`. Pure."""

from rhapsode_contract import events
from rhapsode_contract.tickets import Ticket, TicketRequest
from rhapsode_relay.openapi.operations import Answer, Operation, Parameter
from rhapsode_relay.openapi.parameters import AFTER, BAD_BODY, CHANNELS, LAST_EVENT_ID, WORKER_STREAM

_FILE = Parameter("file", "path", "Its name.", {"type": "string", "minLength": 1}, "page.js", True)
_UNCHANGED = Answer(304, "You have it: `If-None-Match` says so.")

OPERATIONS = (
    Operation(
        "get", "/v1/worker", "showWorker", "Worker", "Look at the worker",
        (Answer(200, "How the worker is now.", events.Worker),),
    ),
    Operation(
        "get", "/v1/worker/stream", "readWorker", "Worker", "Read the worker's life",
        (Answer(200, "Begins with how the worker is; never ends by itself.", stream=WORKER_STREAM),),
        "", (CHANNELS, LAST_EVENT_ID, AFTER),
        refusals={400: "invalid_request invalid_cursor", 503: "too_many_readers"},
    ),
    Operation(
        "post", "/v1/tickets", "giveTicket", "Jobs", "Get leave to read one stream without a key",
        (Answer(201, "The ticket, and the stream's path with it.", Ticket),),
        "", (), TicketRequest, {"correlation_id": "turn-7"}, {400: BAD_BODY},
    ),
    Operation(
        "get", "/", "openPage", "About", "The page: what the worker does beside what it says",
        (Answer(200, "HTML.", media_type="text/html"), _UNCHANGED), is_public=True,
    ),
    Operation(
        "get", "/page/{file}", "openPagePart", "About", "A file of the page",
        (Answer(200, "It.", media_type="text/javascript", other_types=("text/css", "image/svg+xml")), _UNCHANGED),
        "", (_FILE,), is_public=True,
    ),
    Operation(
        "get", "/openapi.json", "describe", "About", "This description",
        (Answer(200, "OpenAPI 3.1.", dict),), is_public=True,
    ),
)  # fmt: skip
