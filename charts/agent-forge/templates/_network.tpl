{{/* Rules of egress, by what is at the other end. */}}

{{- define "agent-forge.ports" -}}
ports:
  {{- range . }}
  - {port: {{ . }}, protocol: TCP}
  {{- end }}
{{- end -}}

{{- define "agent-forge.toDns" -}}
{{- with .Values.networkPolicy.dns }}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .namespace }}
      podSelector:
        matchLabels:
          {{- toYaml .podLabels | nindent 10 }}
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "agent-forge.toKubernetesApi" -}}
{{- with .Values.networkPolicy.kubernetesApi }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- include "agent-forge.ports" .ports | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "agent-forge.toKfp" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.kfp.namespace }}
  {{- include "agent-forge.ports" .Values.networkPolicy.kfp.ports | nindent 2 }}
{{- end -}}

{{- define "agent-forge.toObjectStore" -}}
{{- if .Values.minio.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "agent-forge.selector" (list $ "minio") | nindent 10 }}
  {{- include "agent-forge.ports" (list 9000) | nindent 2 }}
{{- end }}
{{- with .Values.networkPolicy.objectStore }}
{{- if or .podLabels .cidrs }}
- to:
    {{- if .podLabels }}
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ $.Values.kfp.namespace }}
      podSelector:
        matchLabels:
          {{- toYaml .podLabels | nindent 10 }}
    {{- end }}
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- include "agent-forge.ports" .ports | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "agent-forge.toMlflow" -}}
{{- if .Values.mlflow.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "agent-forge.selector" (list $ "mlflow") | nindent 10 }}
  {{- include "agent-forge.ports" (list 5000) | nindent 2 }}
{{- end }}
{{- with .Values.networkPolicy.mlflow }}
{{- if .cidrs }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  {{- include "agent-forge.ports" .ports | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Sources of ingress: the pipeline's pods, and this chart's own. */}}
{{- define "agent-forge.fromOwnPods" -}}
- from:
    - podSelector:
        matchLabels:
          {{- toYaml .Values.networkPolicy.pipelineLabels | nindent 10 }}
    - podSelector:
        matchLabels:
          {{- include "agent-forge.selector" (list $ "") | nindent 10 }}
{{- end -}}
