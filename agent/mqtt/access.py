"""What a broker asks of its clients: certificates and a password, which may be missing for a while."""

from __future__ import annotations

import logging
import ssl

from agent.base.errors import ConfigError
from agent.config.models_mqtt import MqttSettings

log = logging.getLogger(__name__)

_AGAIN_S = 5.0


class Access:
    """Reads the certificates, again where they cannot be used yet; inspection goes on, results wait on disk.

    Used by the thread that connects.

    Args:
        mqtt: the broker's settings.
        lacking: why they have no password, or no name: they come with other settings. None where they do.
        tls: from `tls_context`, where that was read already.

    Attributes:
        tls: what TLS needs; None without TLS, and while there is a problem.
        problem: why nobody can connect, in one sentence; None where one can.
    """

    def __init__(
        self, mqtt: MqttSettings, lacking: str | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.tls, self.problem = tls, lacking
        self._mqtt, self._lacking = mqtt, lacking
        self._again_at = float("-inf")
        if tls is None:
            self.ready(0.0)

    def ready(self, now: float) -> bool:
        """Return whether one can connect; reads the certificates now and then until they are good.

        Args:
            now: `time.monotonic`.
        """
        if self._lacking is not None:
            return False
        if self._mqtt.tls is None or self.tls is not None:
            return True
        if now < self._again_at:
            return False
        self._again_at = now + _AGAIN_S
        try:
            self.tls = tls_context(self._mqtt)
        except ConfigError as error:
            if self.problem is None:
                log.error("%s; inspection goes on, it is tried again", error)
            self.problem = str(error)
            return False
        self.problem = None
        return True


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """Return what TLS needs, None without TLS.

    Raises:
        ConfigError: the certificate files cannot be used.
    """
    if settings.tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.tls.cert is not None:
            # Without a pass phrase here an encrypted key would ask for one on the terminal, for ever.
            context.load_cert_chain(settings.tls.cert, settings.tls.key, password="")
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(file for file in (settings.tls.ca, settings.tls.cert, settings.tls.key) if file)
        raise ConfigError([f"mqtt.tls: {files}: {error}: give PEM files that belong together"]) from error
    return context
