{{/* Addresses of images. global.imageRegistry, where it is set, is the registry of all of them. */}}

{{/* One of Agent Forge's own: (list $ "cognate"). */}}
{{- define "agent-forge.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- with $root.Values.images -}}
{{- $registry := $root.Values.global.imageRegistry | default .registry -}}
{{- $repository := printf "%s/%s/%s" $registry .prefix $name -}}
{{- $digest := index .digests $name -}}
{{- ternary (printf "%s@%s" $repository (toString $digest)) (printf "%s:%s" $repository (.tag | default $root.Chart.AppVersion)) (not (empty $digest)) -}}
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
