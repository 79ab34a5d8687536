{{/* A service of Agent Forge's own: Deployment, Service and disruption budget.
     (list $ "control" "agent-forge-api"): component (its values and its image) and name. */}}
{{- define "agent-forge.service" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $name := index . 2 -}}
{{- $values := index $root.Values $component -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "agent-forge.metadata" (list $root $component $name) | nindent 2 }}
    app: {{ $name }}
  {{- with $values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type }}
  selector:
    app: {{ $name }}
    {{- include "agent-forge.selector" (list $root $component) | nindent 4 }}
  ports:
    - {name: http, port: {{ $values.port }}, targetPort: http, protocol: TCP}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "agent-forge.metadata" (list $root $component $name) | nindent 2 }}
    app: {{ $name }}
spec:
  replicas: {{ $values.replicas }}
  selector:
    matchLabels:
      app: {{ $name }}
      {{- include "agent-forge.selector" (list $root $component) | nindent 6 }}
  template:
    metadata:
      labels:
        app: {{ $name }}
        {{- include "agent-forge.labels" (list $root $component) | nindent 8 }}
    spec:
      {{- include "agent-forge.pod" (list $root (include "agent-forge.name" $root) "services") | nindent 6 }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      affinity: # replicas that share a node share its end
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    app: {{ $name }}
                    {{- include "agent-forge.selector" (list $root $component) | nindent 20 }}
      containers:
        - name: {{ $component }}
          image: {{ include "agent-forge.image" (list $root $component) }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          {{- with $values.args }}
          args:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          envFrom:
            - configMapRef:
                name: {{ $root.Values.pipeline.configMap }}
            {{- with $values.existingSecret }}
            - secretRef:
                name: {{ . }}
            {{- end }}
          env:
            - {name: HOME, value: /tmp}
            {{- include "agent-forge.s3Keys" $root | trim | nindent 12 }}
            {{- include "agent-forge.kfpEnvironment" $root | trim | nindent 12 }}
          ports:
            - {name: http, containerPort: {{ $values.port }}, protocol: TCP}
          startupProbe:
            tcpSocket: {port: http}
            periodSeconds: 5
            failureThreshold: 60
          readinessProbe:
            httpGet: {path: {{ $values.healthPath }}, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket: {port: http}
            periodSeconds: 20
            timeoutSeconds: 5
            failureThreshold: 3
          securityContext:
            {{- include "agent-forge.containerSecurity" $root | nindent 12 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
      volumes:
        {{- include "agent-forge.tmp" "1Gi" | nindent 8 }}
{{- if gt (int $values.replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "agent-forge.metadata" (list $root $component $name) | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      app: {{ $name }}
      {{- include "agent-forge.selector" (list $root $component) | nindent 6 }}
{{- end }}
{{- end -}}
