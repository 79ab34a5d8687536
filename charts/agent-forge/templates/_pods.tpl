{{/* What all pods of this chart have in common: the Pod Security Standard "restricted", a read-only root and
     a writable /tmp, no token for the Kubernetes API. */}}

{{- define "agent-forge.podSecurity" -}}
runAsNonRoot: true
{{- if not .Values.openshift.enabled }}
runAsUser: {{ .Values.podSecurity.userId }}
runAsGroup: {{ .Values.podSecurity.userId }}
fsGroup: {{ .Values.podSecurity.userId }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* OpenShift chooses the user; elsewhere it is said here too, as some policies look at containers only. */}}
{{- define "agent-forge.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- if not .Values.openshift.enabled }}
runAsUser: {{ .Values.podSecurity.userId }}
runAsGroup: {{ .Values.podSecurity.userId }}
{{- end }}
{{- end -}}

{{/* The head of a pod's spec: (list $ "service account" "services or jobs"). */}}
{{- define "agent-forge.pod" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 2 -}}
serviceAccountName: {{ index . 1 }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.priorityClasses }}
{{- if .enabled }}
priorityClassName: {{ (index . $kind).name }}
{{- end }}
{{- end }}
{{- include "agent-forge.pullSecrets" $root }}
securityContext:
  {{- include "agent-forge.podSecurity" $root | nindent 2 }}
{{- end -}}

{{/* What a container finds of the cluster, as the pipeline's pods do, and folders that it can write. */}}
{{- define "agent-forge.environment" -}}
envFrom:
  - configMapRef:
      name: {{ .Values.pipeline.configMap }}
env:
  - name: HOME
    value: /tmp
  {{- include "agent-forge.s3Keys" . | trim | nindent 2 }}
{{- end -}}

{{- define "agent-forge.s3Keys" -}}
{{- with include "agent-forge.s3Secret" . }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: accesskey
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: secretkey
{{- end }}
{{- end -}}

{{- define "agent-forge.kfpEnvironment" -}}
- name: KFP_HOST
  value: {{ include "agent-forge.kfpHost" . }}
- name: KFP_NAMESPACE
  value: {{ .Release.Namespace }}
{{- with .Values.kfp.tokenSecret }}
{{- if .name }}
- name: KFP_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The volume at /tmp, the one place that is writable: (list $ "1Gi"). */}}
{{- define "agent-forge.tmp" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ . }}
{{- end -}}
