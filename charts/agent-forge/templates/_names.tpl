{{/* The names of objects, and the labels on all of them. */}}

{{- define "agent-forge.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that say which pods are meant: (list $ "component"). They never change during a release's life. */}}
{{- define "agent-forge.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "agent-forge.labels" -}}
{{ include "agent-forge.selector" . }}
{{- with index . 0 }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: agent-forge
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
{{- end -}}

{{/* Name, namespace and labels of an object: (list $ "component" "name"). */}}
{{- define "agent-forge.metadata" -}}
name: {{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "agent-forge.labels" (list (index . 0) (index . 1)) | nindent 2 }}
{{- end -}}

{{/* Where things are. */}}
{{- define "agent-forge.kfpHost" -}}
{{- .Values.kfp.host | default (printf "http://ml-pipeline.%s.svc.cluster.local:8888" .Values.kfp.namespace) -}}
{{- end -}}

{{- define "agent-forge.mlflowUri" -}}
{{- if .Values.mlflow.enabled -}}
{{- printf "http://%s-mlflow.%s.svc.cluster.local:5000" (include "agent-forge.name" .) .Release.Namespace -}}
{{- else -}}
{{- .Values.mlflow.trackingUri -}}
{{- end -}}
{{- end -}}

{{- define "agent-forge.s3Endpoint" -}}
{{- if .Values.minio.enabled -}}
{{- printf "http://%s-minio.%s.svc.cluster.local:9000" (include "agent-forge.name" .) .Release.Namespace -}}
{{- else -}}
{{- .Values.objectStore.endpoint -}}
{{- end -}}
{{- end -}}

{{/* The Secret of the object store: one that is there, or the one that secret.yaml generates; empty for none. */}}
{{- define "agent-forge.s3Secret" -}}
{{- .Values.objectStore.existingSecret | default (ternary "mlpipeline-minio-artifact" "" .Values.minio.enabled) -}}
{{- end -}}
