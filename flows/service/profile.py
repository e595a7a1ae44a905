"""The Prefect profile `uvmap`: what makes a plain `prefect` in any shell talk to the server of `uvmap up`.

Prefect reads profiles from `profiles.toml` in its own home (`~/.prefect`, or `PREFECT_HOME`). Only the profile
`uvmap` is written there; every other profile is kept as it is, and one that points to a server of its own stays
active unless asked otherwise.
"""

import os
from pathlib import Path

from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ANALYTICS_ENABLED
from prefect.settings.context import get_current_settings
from prefect.settings.profiles import load_profiles, save_profiles

from flows.errors import ServiceError
from flows.service.processes import Services

PROFILE = "uvmap"


def profiles_file() -> Path:
    """The file that holds the profiles of this user."""
    path = get_current_settings().profiles_path
    if path is None:
        raise ServiceError("Prefect knows no file for its profiles; unset PREFECT_PROFILES_PATH or set it to a file")
    return path


def write_profile(services: Services, *, activate: bool) -> None:
    """Write the profile, and make it the active one where no other profile points to a server.

    Args:
        services: Gives the server's address; told which profile was active before. Changed in place, not saved.
        activate: Make it active whatever profile was.
    """
    profiles = load_profiles(include_defaults=False)
    active = profiles.active_name
    profiles.update_profile(
        PROFILE,
        {PREFECT_API_URL: services.api_url, PREFECT_SERVER_ANALYTICS_ENABLED: False},
        source=profiles_file(),
    )
    if active != PROFILE:
        chosen = profiles.profiles_by_name.get(active) if active else None
        if activate or chosen is None or PREFECT_API_URL not in chosen.settings:
            services.previous_profile, services.activated = active, True
            profiles.set_active(PROFILE)
    save_profiles(profiles)


def leave_profile(services: Services) -> None:
    """Make the profile active again that was before `uvmap up`, if `uvmap` still is; changed in place, not saved."""
    profiles = load_profiles(include_defaults=False)
    if services.activated and profiles.active_name == PROFILE:
        profiles.set_active(services.previous_profile, check=False)
        save_profiles(profiles)
    services.previous_profile, services.activated = None, False


def how_to_point_here(services: Services) -> str | None:
    """What a shell has to do so that `prefect` talks to this server; None where it does already."""
    url = os.environ.get("PREFECT_API_URL")
    if url is not None and url != services.api_url:
        return f"this shell has PREFECT_API_URL={url}, which goes before any profile: unset PREFECT_API_URL"
    profile = os.environ.get("PREFECT_PROFILE") or load_profiles(include_defaults=False).active_name
    if profile != PROFILE and url is None:
        return f"the active Prefect profile is '{profile}': export PREFECT_PROFILE={PROFILE}, or `uvmap up --activate`"
    return None
