{{/* Addresses of images. global.imageRegistry, where it is set, is the registry of all of them. */}}

{{/* One of Agent Forge's own: (list $ "cognate"). Its digest here, its line in the lock, or the tag of all. */}}
{{- define "agent-forge.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- with $root.Values.images -}}
{{- $registry := $root.Values.global.imageRegistry | default .registry -}}
{{- $repository := printf "%s/%s/%s" $registry .prefix $name -}}
{{- if index .digests $name -}}
{{- printf "%s@%s" $repository (index .digests $name) -}}
{{- else if .lock -}}
{{- $address := index (fromJson .lock) $name | default "" -}}
{{- if not (regexMatch "^[^/@]+/[^@]+@sha256:[0-9a-f]{64}$" $address) -}}
{{- fail (printf "images.lock: it does not pin the image %s; push it (make images-push), or name its digest in images.digests.%s" $name $name) -}}
{{- end -}}
{{- with $root.Values.global.imageRegistry -}}
{{- regexReplaceAllLiteral "^[^/]+" $address . -}}
{{- else -}}
{{- $address -}}
{{- end -}}
{{- else -}}
{{- printf "%s:%s" $repository (.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Somebody else's: (list $ .Values.mlflow.image). */}}
{{- define "agent-forge.foreignImage" -}}
{{- $root := index . 0 -}}
{{- with index . 1 -}}
{{- $repository := printf "%s/%s" ($root.Values.global.imageRegistry | default .registry) .repository -}}
{{- ternary (printf "%s@%s" $repository .digest) (printf "%s:%s" $repository .tag) (not (empty .digest)) -}}
{{- end -}}
{{- end -}}

{{- define "agent-forge.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
