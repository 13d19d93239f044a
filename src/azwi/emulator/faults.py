"""Refusals in Entra's words: AADSTS code, OAuth error, HTTP status, text, and the JSON around them.

Every code has its source. The short names:

- `Learn`: "Microsoft Entra authentication and authorization error codes", learn.microsoft.com/entra/identity-platform/
  reference-error-codes. Its table abridges the texts, so a second source often gives the wording.
- `AWI`: Azure/azure-workload-identity, its troubleshooting page or an issue by number.
- `login`: an issue of Azure/login by number.
- other repositories by owner/name and number.

Entra answers 401 where the client could not be authenticated (`invalid_client`) and 400 otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from string import Formatter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
TOO_MANY_REQUESTS: Final = 429
UNAVAILABLE: Final = 503

# Long values are echoed up to here, so that a hostile request cannot make an answer of a megabyte.
_ECHO_LIMIT: Final = 1024

_FEDERATION_PAGE: Final = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"


@dataclass(frozen=True, slots=True)
class Fault:
    """A refusal, ready to be sent."""

    code: int
    error: str
    status: int
    text: str

    @property
    def name(self) -> str:
        """The code as people write it: `AADSTS700016`."""
        return f"AADSTS{self.code}"


@dataclass(frozen=True, slots=True)
class FaultKind:
    """What is the same in every refusal with one code; `template` names the values that are asserted."""

    code: int
    error: str
    status: int
    template: str

    def __call__(self, **values: str) -> Fault:
        """The refusal of one request; each value is cut to 1,024 characters."""
        text = self.template.format(**{name: value[:_ECHO_LIMIT] for name, value in values.items()})
        return Fault(self.code, self.error, self.status, text)

    def example(self) -> Fault:
        """A refusal that nobody's request caused: each value is a placeholder."""
        names = [name for _, name, _, _ in Formatter().parse(self.template) if name]
        return self(**{name: f"<{name}>" for name in names})


# --- The request itself -------------------------------------------------------------------------------

# Learn; wording MicrosoftDocs/azure-docs#43780.
PARAMETER_MISSING: Final = FaultKind(
    900144, "invalid_request", BAD_REQUEST, "The request body must contain the following parameter: '{parameter}'."
)
# Learn: InvalidRequest, the request is malformed or invalid.
REQUEST_MALFORMED: Final = FaultKind(
    9002313, "invalid_request", BAD_REQUEST, "Invalid request. Request is malformed or invalid."
)
# Learn.
METHOD_NOT_ALLOWED: Final = FaultKind(
    900561, "invalid_request", BAD_REQUEST, "The endpoint only accepts {allowed} requests. Received a {method} request."
)
# Learn; wording AzureAD/microsoft-authentication-library-for-dotnet#3023.
GRANT_TYPE_UNSUPPORTED: Final = FaultKind(
    70003, "unsupported_grant_type", BAD_REQUEST, "The app requested an unsupported grant type '{grant_type}'."
)

# --- Tenant and instance --------------------------------------------------------------------------------

# Learn; error and wording Azure/azure-cli#22145.
TENANT_NOT_FOUND: Final = FaultKind(
    90002,
    "invalid_tenant",
    BAD_REQUEST,
    "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct "
    "cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the "
    "tenant.",
)
# Learn.
COMMON_NOT_SUPPORTED: Final = FaultKind(
    9001023,
    "invalid_request",
    BAD_REQUEST,
    "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or "
    "tenant-specific endpoint.",
)
# Learn (MissingTenantRealm...); wording MicrosoftDocs/azure-docs#24064.
TENANT_NOT_NAMED: Final = FaultKind(
    50059,
    "invalid_request",
    BAD_REQUEST,
    "No tenant-identifying information found in either the request or implied by any provided credentials.",
)
# Learn: NoSuchInstanceForDiscovery; the error is the one that MSAL looks for.
INSTANCE_UNKNOWN: Final = FaultKind(50049, "invalid_instance", BAD_REQUEST, "Unknown or invalid instance.")
# Learn: MalformedDiscoveryRequest.
DISCOVERY_MALFORMED: Final = FaultKind(50050, "invalid_request", BAD_REQUEST, "The request is malformed.")

# --- The application and what it presents ---------------------------------------------------------------

# Learn; error from Microsoft's support article on the Azure fence agent, wording donwa/oneindex#621.
APPLICATION_NOT_FOUND: Final = FaultKind(
    700016,
    "unauthorized_client",
    BAD_REQUEST,
    "Application with identifier '{client_id}' was not found in the directory '{directory}'. This can happen if the "
    "application has not been installed by the administrator of the tenant or consented to by any user in the tenant. "
    "You may have sent your authentication request to the wrong tenant.",
)
# Learn. Entra has also been seen to answer AADSTS7000216 here (MicrosoftDocs/azure-docs#30777), which Learn omits.
CREDENTIAL_MISSING: Final = FaultKind(
    7000218,
    "invalid_client",
    UNAUTHORIZED,
    "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
)
# Learn: UnauthorizedClientApplicationDisabled; wording MicrosoftDocs/azure-docs#72437.
APPLICATION_DISABLED: Final = FaultKind(
    7000112, "unauthorized_client", BAD_REQUEST, "Application '{client_id}'({display_name}) is disabled."
)
# Learn abridges it; the wording is quoted everywhere.
SECRET_INVALID: Final = FaultKind(
    7000215,
    "invalid_client",
    UNAUTHORIZED,
    "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the "
    "client secret ID, for a secret added to app '{client_id}'.",
)
# Learn: InvalidJwtToken; wording panva/openid-client#348.
ASSERTION_MALFORMED: Final = FaultKind(50027, "invalid_request", BAD_REQUEST, "JWT token is invalid or malformed.")
# Quoted whole in public source code, in answers of 2023; no page of Learn has it.
ASSERTION_WITHOUT_KEY: Final = FaultKind(
    5002723,
    "invalid_client",
    UNAUTHORIZED,
    "Invalid JWT token. No certificate SHA-1 thumbprint, certificate SHA-256 thumbprint, nor keyId specified in token "
    "header.",
)
# Quoted whole in public source code, in answers of 2023, with these algorithms; no page of Learn has it.
ALGORITHM_UNSUPPORTED: Final = FaultKind(
    5002738,
    "invalid_client",
    UNAUTHORIZED,
    "Invalid JWT token. '{algorithm}' is not a supported signature algorithm. Supported signing algorithms are: "
    "'RS256,RS384,RS512'",
)
# Learn; wording AzureAD/microsoft-authentication-library-for-dotnet#4951.
ASSERTION_OUT_OF_TIME: Final = FaultKind(
    700024,
    "invalid_client",
    UNAUTHORIZED,
    "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {start}, expiry "
    "time of assertion {end}. Review the documentation at "
    "https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
)
# Learn; the reason in Azure/azure-sdk-for-java#25109.
SIGNATURE_INVALID: Final = FaultKind(
    700027,
    "invalid_client",
    UNAUTHORIZED,
    "Client assertion failed signature validation. [Reason - The provided signature value did not match the expected "
    "signature value., Thumbprint of key used by client: '{kid}']",
)
# keycloak/keycloak#19425: what an assertion signed with a certificate gets when the application has none.
CERTIFICATE_UNKNOWN: Final = FaultKind(
    700027,
    "invalid_client",
    UNAUTHORIZED,
    "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - "
    "The key was not found., Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured "
    "keys for app Id '{client_id}'.]",
)
# AWI#1232.
KEY_UNKNOWN: Final = FaultKind(
    7000272,
    "invalid_client",
    UNAUTHORIZED,
    "The certificate with identifier {kid} used to sign the federated credential could not be found in the metadata of "
    "identity provider {issuer}. Please validate that your Identity Provider's metadata exposes the key used to sign "
    "the incoming token.",
)

# --- Federated credentials ------------------------------------------------------------------------------

_CHECK: Final = (
    "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. "
    + _FEDERATION_PAGE
)

# AWI, troubleshooting: issuer, subject and audience are all known, yet no one record has the three of them.
NO_RECORD: Final = FaultKind(
    70021,
    "invalid_request",
    BAD_REQUEST,
    "No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. Assertion "
    "Subject: '{subject}'. Assertion Audience: '{audience}'. " + _FEDERATION_PAGE,
)
# Quoted in public workflows with this wording; no page of Learn has it.
NO_CREDENTIALS: Final = FaultKind(
    70025,
    "invalid_client",
    UNAUTHORIZED,
    "The client '{client_id}'({display_name}) has no configured federated identity credentials.",
)
# AWI#1200.
NO_ISSUER: Final = FaultKind(
    700211,
    "invalid_client",
    UNAUTHORIZED,
    "No matching federated identity record found for presented assertion issuer '{issuer}'. " + _CHECK,
)
# docs.gitlab.com, "Configure OpenID Connect in Azure", Troubleshooting.
NO_AUDIENCE: Final = FaultKind(
    700212,
    "invalid_client",
    UNAUTHORIZED,
    "No matching federated identity record found for presented assertion audience '{audience}'. " + _CHECK,
)
# AWI#1200, login#482.
NO_SUBJECT: Final = FaultKind(
    700213,
    "invalid_client",
    UNAUTHORIZED,
    "No matching federated identity record found for presented assertion subject '{subject}'. " + _CHECK,
)
# login#515, login#497: since August 2024, when only the case differs.
SUBJECT_CASE: Final = FaultKind(
    7002138,
    "invalid_client",
    UNAUTHORIZED,
    "No matching federated identity record found for presented assertion subject '{subject}'. The subject matches "
    "with case-insensitive comparison, but not with case-sensitive comparison. Check your federated identity "
    "credential Subject, Audience and Issuer against the presented assertion. See documentation at: "
    + _FEDERATION_PAGE
    + ". See breaking change notification and remediation at: "
    "https://learn.microsoft.com/en-us/entra/identity-platform/reference-breaking-changes#august-2024.",
)
# AWI, troubleshooting: the issuer's documents cannot be reached.
ISSUER_UNREACHABLE: Final = FaultKind(
    90061, "invalid_request", BAD_REQUEST, "Request to External OIDC endpoint failed."
)
# login#283 and docs.gitlab.com: something answers there, but not with the documents of this issuer.
ISSUER_UNUSABLE: Final = FaultKind(501661, "invalid_request", BAD_REQUEST, "Request to External OIDC endpoint failed.")

# --- Scope and resource ---------------------------------------------------------------------------------

# Learn; wording MicrosoftDocs/azure-docs#36432.
SCOPE_INVALID: Final = FaultKind(
    70011,
    "invalid_scope",
    BAD_REQUEST,
    "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' "
    "is not valid. The scope {scope} is not valid.",
)
# microsoftgraph/msgraph-sdk-python#181.
SCOPE_NOT_DEFAULT: Final = FaultKind(
    1002012,
    "invalid_scope",
    BAD_REQUEST,
    "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default "
    "suffixed to the resource identifier (application ID URI).",
)
# Learn; wording Azure/azure-cli#16850.
RESOURCE_NOT_FOUND: Final = FaultKind(
    500011,
    "invalid_resource",
    BAD_REQUEST,
    "The resource principal named {resource} was not found in the tenant named {directory}. This can happen if the "
    "application has not been installed by the administrator of the tenant or consented to by any user in the tenant. "
    "You might have sent your authentication request to the wrong tenant.",
)

# --- What passes, and what policy forbids: only when the emulator is told to --------------------------------

# Learn: TenantThrottlingError.
THROTTLED: Final = FaultKind(
    90055,
    "temporarily_unavailable",
    TOO_MANY_REQUESTS,
    "There are too many incoming requests. This exception is thrown for blocked tenants.",
)
# Learn: MsodsServiceUnavailable.
DIRECTORY_UNAVAILABLE: Final = FaultKind(
    90033,
    "temporarily_unavailable",
    UNAVAILABLE,
    "The Microsoft Online Directory Service (MSODS) is not available.",
)
# Learn: LoopDetected.
LOOP_DETECTED: Final = FaultKind(
    50196,
    "invalid_grant",
    BAD_REQUEST,
    "The server terminated an operation because it encountered a client request loop while processing a request. "
    "Please contact your app vendor.",
)
# Learn: BlockedByConditionalAccess; workload identities meet it by location or risk.
BLOCKED_BY_POLICY: Final = FaultKind(
    53003,
    "invalid_grant",
    BAD_REQUEST,
    "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
)

# Each code with its first kind.
BY_CODE: Final[Mapping[int, FaultKind]] = {
    kind.code: kind for kind in reversed(list(globals().values())) if isinstance(kind, FaultKind)
}


def render_body(fault: Fault, now: float, trace_id: str, correlation_id: str) -> dict[str, object]:
    """The JSON document of a refusal.

    Entra leaves `error_uri` out for codes that its look-up page does not know; here it is always given.

    Source: Learn, "Handling error codes in your application".
    """
    timestamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return {
        "error": fault.error,
        "error_description": (
            f"{fault.name}: {fault.text} Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
        ),
        "error_codes": [fault.code],
        "timestamp": timestamp,
        "trace_id": trace_id,
        "correlation_id": correlation_id,
        "error_uri": f"https://login.microsoftonline.com/error?code={fault.code}",
    }
