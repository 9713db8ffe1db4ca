"""What can go wrong in the domain. These errors know no HTTP: `problems` maps them to answers."""


class DomainError(Exception):
    """A command or query that cannot be done as asked; its text is for the client."""


class NotFoundError(DomainError):
    """There is no such aggregate."""

    def __init__(self, kind: str, aggregate_id: int) -> None:
        super().__init__(f"{kind} with id {aggregate_id} not found")


class EmailTakenError(DomainError):
    """Another user has this e-mail address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"User with email {email} already exists")


class UserOwnsItemsError(DomainError):
    """A user who still owns items cannot be deleted."""

    def __init__(self, user_id: int) -> None:
        super().__init__(f"User with id {user_id} still owns items")


class PreconditionFailedError(DomainError):
    """The aggregate is not at the versions that the client expects; `current` are those it is at."""

    def __init__(self, current: tuple[int, ...]) -> None:
        self.current = current
        super().__init__("It was changed meanwhile: look at its present state before you repeat this")


class IdempotencyKeyReusedError(DomainError):
    """The key was used for another request before."""

    def __init__(self) -> None:
        super().__init__("The Idempotency-Key was used with another body before: take a new key for a new request")


class IdempotencyKeyInFlightError(DomainError):
    """A request with the same key is being done right now."""

    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is being done right now: try again to get its result")


class NewerResultError(DomainError):
    """In the middle of a deploy: the request was done by the newer version, and came back to this one."""

    def __init__(self) -> None:
        super().__init__("This was done before, by a newer version of the service, which knows its answer: try again")


class CursorError(DomainError):
    """The cursor is not one that this list gave out."""

    def __init__(self) -> None:
        super().__init__("The cursor is not one that this list gave out: take it from the Link header as it is")


class QueryConflictError(DomainError):
    """Two query parameters that exclude each other."""

    def __init__(self, parameter: str, detail: str) -> None:
        self.parameter = parameter
        super().__init__(detail)


class OutcomeUnknownError(DomainError):
    """The commit was begun, and its end was not seen: the connection broke, or the time was over."""

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL did not confirm the commit: the command may have been done or not, read before you repeat it"
        )


class OverloadedError(DomainError):
    """Too many wait for a connection, or they have waited too long."""

    def __init__(self) -> None:
        super().__init__("The service is overloaded: every database connection is busy")


class DeadlineError(DomainError):
    """There was not time enough for all that the request needs. A command was rolled back."""

    def __init__(self) -> None:
        super().__init__("This took longer than the service allows and was given up; nothing was changed")


class TokenError(DomainError):
    """The consistency token cannot be honoured, ever."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The Consistency-Token cannot be used: {reason}")


class ProjectionPendingError(DomainError):
    """A read asked to see a write that did not become visible in time."""

    def __init__(self) -> None:
        super().__init__("The write that the Consistency-Token names is not visible yet: try again")


class ProjectionFailedError(DomainError):
    """A read asked to see a write whose message is a dead letter."""

    def __init__(self) -> None:
        super().__init__("The write that the Consistency-Token names cannot become visible before an operator acts")
