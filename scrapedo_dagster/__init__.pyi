from ._version import __version__ as __version__
from .ad_hoc import build_ad_hoc_dataset as build_ad_hoc_dataset
from .api.errors import (
    APIConnectionError as APIConnectionError,
    APIStatusError as APIStatusError,
    AuthenticationError as AuthenticationError,
    RateLimitError as RateLimitError,
    ScrapeDoError as ScrapeDoError,
    SubmissionUncertainError as SubmissionUncertainError,
)
from .api.plugins import PluginRequest as PluginRequest
from .api.requests import (
    RenderOptions as RenderOptions,
    ScrapeOptions as ScrapeOptions,
)
from .assets import (
    build_scrape_do_assets as build_scrape_do_assets,
    scrape_do_assets as scrape_do_assets,
)
from .component.component import ScrapeDoComponent as ScrapeDoComponent
from .dataset import ScrapeDoDataset as ScrapeDoDataset
from .engine.errors import (
    EngineError as EngineError,
    InvalidTargetsError as InvalidTargetsError,
    JobDeadlineError as JobDeadlineError,
    MissingPartitionsError as MissingPartitionsError,
    NotEnoughCreditsError as NotEnoughCreditsError,
    NothingSubmittedError as NothingSubmittedError,
    TargetSourceError as TargetSourceError,
)
from .engine.targets.target import Target as Target
from .io_manager import ScrapeDoParquetIOManager as ScrapeDoParquetIOManager
from .ops import (
    collect_targets as collect_targets,
    submit_targets as submit_targets,
)
from .ops_config import (
    ScrapeDoCollected as ScrapeDoCollected,
    ScrapeDoHandle as ScrapeDoHandle,
    SubmitTargetsConfig as SubmitTargetsConfig,
)
from .resource import ScrapeDoResource as ScrapeDoResource
from .sensors import build_scrape_do_sensor as build_scrape_do_sensor
from .targets import (
    TargetsAsset as TargetsAsset,
    TargetsFile as TargetsFile,
)
from .translator import (
    ScrapeDoTable as ScrapeDoTable,
    ScrapeDoTranslator as ScrapeDoTranslator,
)
