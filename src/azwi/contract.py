"""Every name the outside sees: labels, annotations, variables, paths, ports, defaults, ranges.

A name that stands here is an interface: workloads, charts and SDKs depend on its exact spelling. No other
module spells one of them out. Sources: `R` is docs/reference-behaviour.md by section (the Go implementation, v1.6.0),
`D` is docs/differences.md by item number.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "azure.workload.identity/"

# --- Labels and annotations -------------------------------------------------------------------------

USE_LABEL: Final = PREFIX + "use"  # R 1; selected by the API server, never read by the webhook

# On the ServiceAccount.
CLIENT_ID_ANNOTATION: Final = PREFIX + "client-id"  # R 1
TENANT_ID_ANNOTATION: Final = PREFIX + "tenant-id"  # R 1
CLIENT_ID_FROM_ANNOTATION: Final = PREFIX + "client-id-from"  # D 15

# On the ServiceAccount or the Pod; the Pod wins (R 2.7).
EXPIRATION_ANNOTATION: Final = PREFIX + "service-account-token-expiration"

# On the Pod.
SKIP_CONTAINERS_ANNOTATION: Final = PREFIX + "skip-containers"  # R 2.5
INJECT_PROXY_ANNOTATION: Final = PREFIX + "inject-proxy-sidecar"  # R 2.4, D 5
PROXY_PORT_ANNOTATION: Final = PREFIX + "proxy-sidecar-port"  # R 2.4, D 6
PROXY_MODE_ANNOTATION: Final = PREFIX + "proxy-mode"  # D 10
PROXY_NATIVE_ANNOTATION: Final = PREFIX + "proxy-native-sidecar"  # D 67
PROXY_QUIT_ANNOTATION: Final = PREFIX + "proxy-quit"  # D 30
IDENTITY_MAP_ANNOTATION: Final = PREFIX + "identity-map"  # D 26
LEGACY_TOKEN_PATH_ANNOTATION: Final = PREFIX + "legacy-token-path"  # D 3
INJECTED_ANNOTATION: Final = PREFIX + "injected"  # D 16
CUSTOM_ENDPOINT_ANNOTATION_PREFIX: Final = PREFIX + "use-"  # R 2.8

# D 11: what one Pod may set of the injected containers' resources, e.g. `proxy-cpu-request`.
RESOURCE_ANNOTATION_PREFIXES: Final = {"azwi-proxy": PREFIX + "proxy-", "azwi-proxy-init": PREFIX + "proxy-init-"}

# --- Environment variables of the containers --------------------------------------------------------

CLIENT_ID_VARIABLE: Final = "AZURE_CLIENT_ID"  # R 1, in this order
TENANT_ID_VARIABLE: Final = "AZURE_TENANT_ID"
TOKEN_FILE_VARIABLE: Final = "AZURE_FEDERATED_TOKEN_FILE"
AUTHORITY_HOST_VARIABLE: Final = "AZURE_AUTHORITY_HOST"

TOKEN_PROXY_VARIABLE: Final = "AZURE_KUBERNETES_TOKEN_PROXY"  # R 2.8
SNI_NAME_VARIABLE: Final = "AZURE_KUBERNETES_SNI_NAME"
CA_FILE_VARIABLE: Final = "AZURE_KUBERNETES_CA_FILE"
CA_DATA_VARIABLE: Final = "AZURE_KUBERNETES_CA_DATA"

# D 10; read by azure-identity of Python, JavaScript, Java and .NET.
POD_IDENTITY_HOST_VARIABLE: Final = "AZURE_POD_IDENTITY_AUTHORITY_HOST"

PROXY_PORT_VARIABLE: Final = "PROXY_PORT"  # R 6
PROXY_UID_VARIABLE: Final = "PROXY_UID"  # R 6
METADATA_ADDRESS_VARIABLE: Final = "METADATA_IP"  # R 6
METADATA_PORT_VARIABLE: Final = "METADATA_PORT"  # R 6
LOCK_FILE_VARIABLE: Final = "XTABLES_LOCKFILE"  # D 9; iptables(8)
SSL_CERT_FILE_VARIABLE: Final = "SSL_CERT_FILE"  # OpenSSL's own

# --- Token: audience, life, where it stands -----------------------------------------------------------

DEFAULT_AUDIENCE: Final = "api://AzureADTokenExchange"  # R 1
DEFAULT_EXPIRATION: Final = 3600  # seconds, R 1
MIN_EXPIRATION: Final = 3600
MAX_EXPIRATION: Final = 86400
EXPIRATION_MARGIN: Final = 120  # seconds beyond the grace period, D 14

MOUNT_PATH: Final = "/var/run/secrets/azure/wi"  # R 1
TOKEN_PATH: Final = "token/azure-identity-token"  # a path inside the volume, R 1
TOKEN_FILE: Final = MOUNT_PATH + "/" + TOKEN_PATH
CA_PATH: Final = "ca-cert/ca.crt"  # R 1
CA_FILE: Final = MOUNT_PATH + "/" + CA_PATH
VOLUME_PREFIX: Final = "azure-workload-identity-reserved-"  # R 1
VOLUME_NAME: Final = VOLUME_PREFIX + "token"  # D 2

LEGACY_MOUNT_PATH: Final = "/var/run/secrets/azure/tokens"  # D 3, the reference before 1.6
LEGACY_TOKEN_PATH: Final = "azure-identity-token"  # a path inside the volume, D 3

# --- Proxy ----------------------------------------------------------------------------------------------

PROXY_CONTAINER: Final = "azwi-proxy"  # R 1
PROXY_INIT_CONTAINER: Final = "azwi-proxy-init"
DEFAULT_PROXY_PORT: Final = 8000  # R 1
DEFAULT_PROXY_UID: Final = 1501  # R 6
METADATA_ADDRESS: Final = "169.254.169.254"  # R 6; Microsoft's Instance Metadata Service
METADATA_PORT: Final = 80
IDENTITY_MAP_VOLUME: Final = "azwi-identity-map"  # D 26
IDENTITY_MAP_PATH: Final = "/etc/azwi/identity-map"  # a folder: the ConfigMap's keys
DRAIN_MARGIN: Final = 5  # seconds of the grace period that a draining proxy leaves, D 30

# --- Webhook --------------------------------------------------------------------------------------------

WEBHOOK_PATH: Final = "/mutate-v1-pod"  # R 2.3
# For the webhook entry that selects namespaces, not labelled Pods: only annotated service accounts count.
ANNOTATED_WEBHOOK_PATH: Final = "/mutate-v1-pod-annotated"
ANNOTATED_NAMESPACE_LABEL: Final = PREFIX + "use-annotated-serviceaccounts"
WEBHOOK_PORT: Final = 9443
HEALTH_ADDRESS: Final = ":9440"  # R 3
METRICS_ADDRESS: Final = ":8095"
CERTIFICATE_FOLDER: Final = "/certs"
MAX_REVIEW_BYTES: Final = 7_340_032  # R 2.3
MAX_WARNING_LENGTH: Final = 120  # characters; Kubernetes: AdmissionResponse.warnings
WEBHOOK_CONFIGURATION: Final = "azure-wi-webhook-mutating-webhook-configuration"  # R 3.1
CERTIFICATE_SECRET: Final = "azure-wi-webhook-server-cert"
WEBHOOK_SERVICE: Final = "azure-wi-webhook-webhook-service"
LEASE: Final = "azure-wi-webhook-leader"  # D 21
POD_NAMESPACE_VARIABLE: Final = "POD_NAMESPACE"  # R 3
POD_NAME_VARIABLE: Final = "POD_NAME"
DEFAULT_NAMESPACE: Final = "azure-workload-identity-system"
