"""Settings: one model, from the environment (prefix VIBE_), from files that the environment names, and a .env file."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streams.subjects import lanes

SMALL = {"lanes": 1, "nats_memory_mb": 256}
"""Settings of the small profile."""


class _Files(PydanticBaseSettingsSource):
    """The content of the file that VIBE_<NAME>_FILE names, without its last line break: for secrets, because an
    environment is shown to everything that the process starts."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"VIBE_{field_name}_FILE".upper())
        if path is None or f"{field_name}_file" in self.settings_cls.model_fields:
            return None, field_name, False
        return Path(path).read_text(encoding="utf-8").removesuffix("\n"), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """Everything that can be set; `vibe --help` says where each is used."""

    model_config = SettingsConfigDict(env_prefix="VIBE_", env_file=".env", extra="ignore", frozen=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given directly wins: the children of `vibe up` get the addresses of its servers so."""
        return init_settings, env_settings, _Files(settings_cls), dotenv_settings

    profile: Literal["standard", "small"] = Field(
        "standard", description="small: all stages and the pages in one process, for 1 CPU and 2 GB"
    )
    data_dir: Path = Field(Path(".vibe"), description="where the embedded servers keep their data and logs")
    nats_url: str | None = Field(None, description="an event log of your own instead of the embedded one")
    postgres_dsn: SecretStr | None = Field(None, description="a Postgres of your own instead of the embedded one")
    nats_memory_mb: Annotated[
        int, Field(ge=0, description="memory from which on the embedded nats-server collects garbage sooner; 0 = off")
    ] = 512
    archive_url: str | None = Field(None, description="where closed days go: a folder, or s3://bucket/prefix and alike")
    backup_url: str | None = Field(None, description="where backups go: a folder, or s3://bucket/prefix and alike")
    backup_key_file: Path | None = Field(None, description="the key that encrypts backups; keep a copy elsewhere")
    keystore: Path | None = Field(
        None, description="the file of agents' keys; keystore.json in the data folder unless set"
    )
    keystore_password_file: Path | None = Field(None, description="the keystore's password")
    vault_url: str | None = Field(None, description="a Vault that holds agents' keys in one secret")
    vault_path: str = Field("secret/vibe/agents", description="of that secret: engine (KV version 2), then path")
    vault_role_id: str | None = Field(None, description="the AppRole that reads it")
    vault_secret_id_file: Path | None = Field(None, description="the AppRole's secret id")
    daily_jobs_at: Annotated[
        str,
        Field(
            pattern=r"^(([01]\d|2[0-3]):[0-5]\d|off)$",
            description="UTC time of `vibe up`'s daily jobs",
        ),
    ] = "03:00"
    hyperliquid_ws_url: str = "wss://api.hyperliquid.xyz/ws"
    hyperliquid_api_url: str = "https://api.hyperliquid.xyz"
    hyperliquid_weight_per_minute: Annotated[
        int, Field(ge=120, description="request weight that the venue allows an address per minute, over all stages")
    ] = 1_200
    hyperliquid_book_subscriptions: Annotated[
        int, Field(ge=0, le=1_000, description="of the venue's 1,000 subscriptions, for live books; 0 = off")
    ] = 240
    polymarket_data_url: str = "https://data-api.polymarket.com"
    polymarket_gamma_url: str = "https://gamma-api.polymarket.com"
    polymarket_clob_url: str = "https://clob.polymarket.com"
    polymarket_market_ws_url: str = "wss://ws-subscriptions-clob.polymarket.com/ws/market"
    polymarket_book_subscriptions: Annotated[
        int, Field(ge=0, le=2_000, description="tokens whose books are live at a time; 0 = off")
    ] = 200
    polymarket_requests_per_second: Annotated[
        float, Field(gt=0, le=1_000, description="requests a second to the venue, over all stages")
    ] = 20.0
    polymarket_requests_at_once: Annotated[
        int, Field(ge=10, le=1_000, description="of these, how many may be sent at once, over all stages")
    ] = 40
    polymarket_poll_seconds: Annotated[
        float, Field(ge=1, le=3_600, description="between polls of a wallet that is not trading")
    ] = 30.0
    polymarket_start_backfill_seconds: Annotated[
        int, Field(ge=60, le=604_800, description="how far back the activity of a wallet is fetched at the start")
    ] = 900
    polymarket_reconnect_backfill_seconds: Annotated[
        int, Field(ge=30, le=604_800, description="the same after the on-chain subscription was lost")
    ] = 300
    polymarket_reconcile_backfill_seconds: Annotated[
        int, Field(ge=30, le=604_800, description="the same once a minute for wallets that trade")
    ] = 120
    polygon_ws_url: str = Field("wss://polygon-bor-rpc.publicnode.com", description="a Polygon node, for its logs")
    polygon_http_url: str = Field("https://polygon-bor-rpc.publicnode.com", description="the same node, for questions")
    outgoing_address: Annotated[
        str, Field(min_length=1, max_length=100, description="processes with the same one share the venues' budgets")
    ] = "shared"
    mark_seconds: Annotated[float, Field(gt=0, description="how often held assets are marked")] = 30.0
    paper_bankroll_usd: Annotated[
        int, Field(ge=0, le=1_000_000_000, description="cash of the paper portfolios of each influencer; 0 = none")
    ] = 10_000
    lanes: Annotated[int, Field(description="lanes per stage: 1, 2, 4 or 8")] = 4
    lag_events: Annotated[
        int, Field(ge=1, description="events that a stage may have before it; with more it is behind")
    ] = 10_000
    lag_seconds: Annotated[float, Field(ge=0, description="for so long before its health is red")] = 30.0
    replicas: Annotated[int, Field(ge=1, le=5, description="copies of every stream; 3 in a cluster")] = 1
    http_host: str = "127.0.0.1"
    http_port: Annotated[
        int | None, Field(ge=0, le=65535, description="health and metrics; 9464, or a free one, unless set; 0 = off")
    ] = None
    web_host: str = Field("127.0.0.1", description="where `vibe web` listens")
    web_port: Annotated[
        int | None, Field(ge=0, le=65535, description="port of the pages and the API; 8080, or a free one, unless set")
    ] = None
    web_token_file: Path | None = Field(None, description="receives the one-time token of the first sign-in")
    web_public_url: str | None = Field(None, description="the address behind a proxy, such as https://copy.example")
    web_trusted_proxies: list[str] = Field([], description="addresses whose X-Forwarded-For counts, as a JSON list")
    web_requests_per_second: Annotated[
        float, Field(gt=0, le=100_000, description="requests that a session, a key or an address may send")
    ] = 20.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"

    @model_validator(mode="before")
    @classmethod
    def _small(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What the small profile sets unless it is set."""
        return {**SMALL, **values} if values.get("profile") == "small" else values

    @field_validator("lanes")
    @classmethod
    def _lanes_exist(cls, count: int) -> int:
        lanes(count)
        return count

    @property
    def bankroll_micros(self) -> int:
        return self.paper_bankroll_usd * 1_000_000

    @property
    def dsn(self) -> str | None:
        return self.postgres_dsn.get_secret_value() if self.postgres_dsn else None

    @property
    def archive(self) -> str:
        return self.archive_url or str(self.data_dir / "archive")

    @property
    def keystore_path(self) -> Path:
        return self.keystore or self.data_dir / "keystore.json"

    @property
    def backup(self) -> str:
        return self.backup_url or str(self.data_dir / "backup")

    @property
    def backup_key(self) -> Path:
        return self.backup_key_file or self.data_dir / "backup.key"


@lru_cache(maxsize=1)
def settings() -> Settings:
    return Settings()


def nats_conf() -> Path:
    """nats.conf of the repository, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package.parent / "nats.conf", package / "nats.conf"):
        if candidate.exists():
            return candidate
    raise FileNotFoundError("nats.conf is missing; reinstall the package or run from the repository")


def polymarket_settings(url: str) -> dict[str, str]:
    """The settings that point everything of Polymarket at a sandbox."""
    return {
        "VIBE_POLYMARKET_DATA_URL": f"{url}/data",
        "VIBE_POLYMARKET_GAMMA_URL": f"{url}/gamma",
        "VIBE_POLYMARKET_CLOB_URL": f"{url}/clob",
        "VIBE_POLYMARKET_MARKET_WS_URL": f"{url.replace('http', 'ws', 1)}/clob/ws/market",
        "VIBE_POLYGON_WS_URL": f"{url.replace('http', 'ws', 1)}/polygon",
        "VIBE_POLYGON_HTTP_URL": f"{url}/polygon",
    }
