{{/* The name that all objects begin with. */}}
{{- define "headrace.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels of an object: (dict "root" $ "part" "web"). */}}
{{- define "headrace.labels" -}}
{{ include "headrace.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "headrace.selector" -}}
app.kubernetes.io/name: headrace
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "headrace.secret" -}}
{{- .Values.secrets.existing | default (include "headrace.name" .) -}}
{{- end -}}

{{- define "headrace.tlsSecret" -}}
{{- .Values.rpc.tls.existing | default (printf "%s-tls" (include "headrace.name" .)) -}}
{{- end -}}

{{/* An image: (dict "root" $ "of" .Values.image.web "tag" ""). */}}
{{- define "headrace.image" -}}
{{- printf "%s:%s" .of.repository (coalesce .tag .of.tag .root.Chart.AppVersion) -}}
{{- end -}}

{{/* What all pods have in common: (dict "root" $ "part" "web" "grace" 30). */}}
{{- define "headrace.pod" -}}
serviceAccountName: {{ include "headrace.name" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .grace }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "headrace.selector" . | nindent 8 }}
{{- end -}}

{{- define "headrace.confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Variables: (dict "root" $ "env" .Values.web.env "admin" true). */}}
{{- define "headrace.env" -}}
- {name: HEADRACE_REDIS_URL_FILE, value: /secrets/redis/redis-url}
{{- if .admin }}
- {name: HEADRACE_BOOTSTRAP_KEY_FILE, value: /secrets/admin/bootstrap-key}
{{- end }}
{{- range $name, $value := .env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* Where a process finds its configuration and its secrets: (dict "root" $ "admin" true). */}}
{{- define "headrace.mounts" -}}
- {name: config, mountPath: /etc/headrace, readOnly: true}
- {name: redis, mountPath: /secrets/redis, readOnly: true}
{{- if .admin }}
- {name: admin, mountPath: /secrets/admin, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "headrace.volumes" -}}
- name: config
  configMap: {name: {{ include "headrace.name" .root }}}
- name: redis
  secret:
    secretName: {{ include "headrace.secret" .root }}
    defaultMode: 0440
    items: [{key: redis-url, path: redis-url}]
{{- if .admin }}
- name: admin
  secret:
    secretName: {{ include "headrace.secret" .root }}
    defaultMode: 0440
    items: [{key: bootstrap-key, path: bootstrap-key}]
{{- end }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{/* Probes by the image's own command: (dict "name" "keeper"). What it writes to Redis is readiness; a restart can't help
     while Redis is away. */}}
{{- define "headrace.probes" -}}
startupProbe:
  exec: {command: [python, -m, cli.probe, {{ .name }}]}
  periodSeconds: 5
  timeoutSeconds: 10
  failureThreshold: 60
readinessProbe:
  exec: {command: [python, -m, cli.probe, {{ .name }}]}
  periodSeconds: 20
  timeoutSeconds: 10
livenessProbe:
  exec: {command: [python, -m, cli.probe, {{ .name }}, --live]}
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 4
{{- end -}}

{{/* At most one of them goes at a time, where there are several: (dict "root" $ "part" "web" "name" NAME "replicas" 2). */}}
{{- define "headrace.budget" -}}
{{- if gt (int .replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{ include "headrace.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{ include "headrace.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
