"""The price file that `farthing prices use` installed for this user, and how a running process comes to notice it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from farthing.errors import PriceDataError
from farthing.guard import report_fault, report_problem
from farthing.pricing.files import default_book, refresh_default_book

if TYPE_CHECKING:
    from farthing.pricing.book import PriceBook
    from farthing.pricing.overrides import PricesSettings

__all__ = ["BookInForce", "installed_file", "with_installed"]

_SITE: Final = "farthing.pricing.installed"


def installed_file() -> Path:
    """Give the place of the installed price file, in the platform's per-user state folder beside the ledger.

    Raises:
        Nothing: whether it is there is another question.
    """
    from platformdirs import user_state_path  # noqa: PLC0415 - off the import path, as in farthing.setup

    return user_state_path("farthing", appauthor=False) / "prices" / "installed.prices"


def with_installed(settings: PricesSettings) -> PricesSettings:
    """Put the installed price file into the settings, unless they name one themselves or none is installed.

    Raises:
        Nothing.
    """
    if settings.file is not None:
        return settings
    path = installed_file()
    return settings.model_copy(update={"file": path}) if path.is_file() else settings


class BookInForce:
    """The price book that a process uses now.

    Args:
        settings: The `[prices]` table.
    """

    def __init__(self, settings: PricesSettings) -> None:
        self._settings: Final = settings
        self._wanted: PricesSettings | None = None
        self._refused: tuple[int, int] | None = None

    def book(self) -> PriceBook:
        """Give the book; the first call loads the price data.

        An installed file that cannot be used is counted as a fault and passed over: the bundled prices stay.

        Raises:
            PriceDataError: The price file that the settings name cannot be used.
        """
        if self._wanted is None:
            self._wanted = self._settings
            wanted = with_installed(self._settings)
            if wanted is not self._settings and self._loads(wanted):
                self._wanted = wanted
        return default_book(self._wanted)

    def loads(self) -> bool:
        """Try to load the price data; say whether it is there, or will not be for any waiting.

        Raises:
            Nothing.
        """
        try:
            self.book()
        except PriceDataError as error:
            return not isinstance(error.__cause__, OSError)
        except Exception as error:  # noqa: BLE001 - no descriptor, no memory: this may be over in a moment
            cause = f"{type(error).__name__}: prices cannot be loaded for now; where calls cannot wait for them, "
            report_problem(_SITE, f"{cause}farthing reprice tells later what they cost")
            return False
        return True

    def look(self) -> bool:
        """Take over a price file that was installed, changed or removed since: to be called off the request path.

        A call meanwhile is priced with the book that was there; a file that cannot be used changes nothing and is
        counted as a fault, once.

        Returns:
            Whether another book is in use now.

        Raises:
            Nothing.
        """
        if self._wanted is None:
            return False
        wanted = with_installed(self._settings)
        if wanted == self._wanted:
            try:
                return refresh_default_book()
            except PriceDataError as error:
                report_fault(_SITE, error)
                return False
        if not self._loads(wanted):
            return False
        self._wanted = wanted
        return True

    def _loads(self, wanted: PricesSettings) -> bool:
        stamp = _stamp(wanted)
        if stamp is not None and stamp == self._refused:
            return False
        try:
            default_book(wanted)
        except PriceDataError as error:
            if not isinstance(error.__cause__, OSError):  # what could not be read may be readable in a moment
                self._refused = stamp
            report_fault(_SITE, error)
            return False
        return True


def _stamp(settings: PricesSettings) -> tuple[int, int] | None:
    if settings.file is None:
        return None
    try:
        state = Path(settings.file).stat()
    except OSError:
        return None
    return (state.st_mtime_ns, state.st_size)
