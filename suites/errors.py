"""The one class of errors that a user can fix; shown as one message without a traceback."""


class UserError(Exception):
    """Bad input or configuration: what happened, where, what is known and what to do.

    It is picklable, so that it can cross process boundaries.
    """

    def __init__(self, what: str, *, where: str = "", known: str = "", fix: str = "") -> None:
        super().__init__(what, where, known, fix)
        self.what, self.where, self.known, self.fix = what, where, known, fix

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.what, self.where, self.known, self.fix)

    @property
    def line(self) -> str:
        """The message on one line, for tables and logs."""
        return "; ".join(part.strip() for part in str(self).splitlines())

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return "\n".join(
            [head]
            + [
                f"  {label}: {text}"
                for label, text in (("known", self.known), ("fix", self.fix))
                if text
            ]
        )


def _rebuild(what: str, where: str, known: str, fix: str) -> UserError:
    return UserError(what, where=where, known=known, fix=fix)
