{{/* The name that all others begin with. */}}
{{- define "azwi.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.legacyNames -}}
azure-wi-webhook
{{- else if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if or (contains .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name of one object: dict "root" $ "legacy" the Go original's suffix, "ours" our suffix (may be empty). */}}
{{- define "azwi.name" -}}
{{- $full := include "azwi.fullname" .root -}}
{{- $suffix := ternary .legacy .ours .root.Values.legacyNames -}}
{{- if $suffix }}{{ $full }}-{{ $suffix }}{{ else }}{{ $full }}{{ end -}}
{{- end -}}

{{- define "azwi.names.account" -}}{{ include "azwi.name" (dict "root" . "legacy" "admin" "ours" "") }}{{- end -}}
{{- define "azwi.names.config" -}}{{ include "azwi.name" (dict "root" . "legacy" "config" "ours" "config") }}{{- end -}}
{{- define "azwi.names.deployment" -}}{{ include "azwi.name" (dict "root" . "legacy" "controller-manager" "ours" "") }}{{- end -}}
{{- define "azwi.names.role" -}}{{ include "azwi.name" (dict "root" . "legacy" "manager-role" "ours" "") }}{{- end -}}
{{- define "azwi.names.binding" -}}{{ include "azwi.name" (dict "root" . "legacy" "manager-rolebinding" "ours" "") }}{{- end -}}
{{- define "azwi.names.secret" -}}{{ include "azwi.name" (dict "root" . "legacy" "server-cert" "ours" "server-cert") }}{{- end -}}
{{- define "azwi.names.lease" -}}{{ include "azwi.name" (dict "root" . "legacy" "cert-rotation" "ours" "cert-rotation") }}{{- end -}}
{{- define "azwi.names.service" -}}{{ include "azwi.name" (dict "root" . "legacy" "webhook-service" "ours" "") }}{{- end -}}
{{- define "azwi.names.metrics" -}}{{ include "azwi.name" (dict "root" . "legacy" "metrics" "ours" "metrics") }}{{- end -}}
{{- define "azwi.names.policy" -}}{{ include "azwi.name" (dict "root" . "legacy" "identity-policy" "ours" "identity-policy") }}{{- end -}}
{{- define "azwi.names.test" -}}{{ include "azwi.name" (dict "root" . "legacy" "test" "ours" "test") }}{{- end -}}
{{- define "azwi.names.dashboard" -}}{{ include "azwi.name" (dict "root" . "legacy" "dashboard" "ours" "dashboard") }}{{- end -}}
{{- define "azwi.names.configuration" -}}
{{ include "azwi.name" (dict "root" . "legacy" "mutating-webhook-configuration" "ours" (printf "%s" .Release.Namespace)) }}
{{- end -}}
{{/* A cluster-wide name holds the namespace, so that releases of one name in two namespaces do not meet. */}}
{{- define "azwi.names.clusterRole" -}}
{{ include "azwi.name" (dict "root" . "legacy" "manager-role" "ours" (printf "%s" .Release.Namespace)) }}
{{- end -}}
{{- define "azwi.names.clusterBinding" -}}
{{ include "azwi.name" (dict "root" . "legacy" "manager-rolebinding" "ours" (printf "%s" .Release.Namespace)) }}
{{- end -}}

{{- define "azwi.selector" -}}
{{- if .Values.legacyNames -}}
azure-workload-identity.io/system: "true"
app: {{ default "workload-identity-webhook" .Values.nameOverride }}
release: {{ .Release.Name }}
{{- else -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- end -}}

{{- define "azwi.labels" -}}
{{ include "azwi.selector" . }}
{{- if .Values.legacyNames }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* An image reference: dict "root" $ "own" the image's own values. What it does not say, the webhook's image says. */}}
{{- define "azwi.image" -}}
{{- $main := .root.Values.image -}}
{{- $repository := default $main.repository .own.repository -}}
{{- $registry := .own.registry | default $main.registry | default .root.Values.global.registry -}}
{{- $same := eq $repository $main.repository -}}
{{- $digest := .own.digest | default (ternary $main.digest "" (and $same (not .own.tag))) -}}
{{- $tag := .own.tag | default (ternary ($main.tag | default $main.release) "" $same) | default .root.Chart.AppVersion -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ $repository }}{{ if $digest }}@{{ $digest }}{{ else }}:{{ $tag }}{{ end -}}
{{- end -}}

{{/* The port of an address such as ":8095" or "127.0.0.1:8095"; empty for "0" and "". */}}
{{- define "azwi.port" -}}
{{- if contains ":" . }}{{ splitList ":" . | last }}{{ end -}}
{{- end -}}

{{/* Whether more than one replica runs. */}}
{{- define "azwi.several" -}}
{{- if .Values.autoscaling.enabled }}{{ if gt (int .Values.autoscaling.minReplicas) 1 }}true{{ end }}{{ else if gt (int .Values.replicaCount) 1 }}true{{ end -}}
{{- end -}}

{{- define "azwi.dnsName" -}}{{ include "azwi.names.service" . }}.{{ .Release.Namespace }}.svc{{- end -}}
