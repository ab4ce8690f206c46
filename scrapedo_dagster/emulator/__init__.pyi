from .faults import (
    CallFault as CallFault,
    Faults as Faults,
    FaultsError as FaultsError,
    JobFault as JobFault,
    TargetFault as TargetFault,
    WireStyle as WireStyle,
)
from .server import (
    Emulator as Emulator,
    PortInUseError as PortInUseError,
    serve as serve,
)
from .settings import (
    DEFAULT_TOKEN as DEFAULT_TOKEN,
    EmulatorSettings as EmulatorSettings,
    EmulatorSettingsError as EmulatorSettingsError,
)
from .state import (
    JobRecord as JobRecord,
    TargetCount as TargetCount,
)
