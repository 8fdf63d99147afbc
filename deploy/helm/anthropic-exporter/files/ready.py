"""Ask ADDRESS for /-/ready, for `helm test`: a wish for a password or a certificate is an answer, too."""

import http.client
import ssl
import sys

ADDRESS = sys.argv[1]

# The certificate has the name that Prometheus asks for, which need not be the Service's.
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def wants_a_certificate(error: Exception, *, shaken: bool) -> bool:
    """Whether the server let us go for that: in TLS 1.3 after the handshake, and its reason may get lost."""
    hung_up = isinstance(error, ssl.SSLError | ConnectionError)
    return (shaken and hung_up) or getattr(error, "reason", None) == "SSLV3_ALERT_HANDSHAKE_FAILURE"


problems = []
# Plain HTTP first: TLS refuses it at once, while a server without TLS waits for the rest of a handshake.
for connection in (
    http.client.HTTPConnection(ADDRESS, timeout=10),
    http.client.HTTPSConnection(ADDRESS, timeout=10, context=context),
):
    shaken = False
    try:
        connection.connect()
        shaken = isinstance(connection.sock, ssl.SSLSocket)
        connection.request("GET", "/-/ready")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        if wants_a_certificate(error, shaken=shaken):
            sys.exit(0)
        problems.append(str(error))
    else:
        sys.exit(0 if status in {200, 401} else f"{ADDRESS} is not ready: status {status}")
sys.exit(f"{ADDRESS} is not ready: {'; '.join(problems)}")
