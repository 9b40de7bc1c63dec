{{/*
Names are fixed: one cluster has one Arbiter, whatever the release is called, so that commands in documents and alerts
hold everywhere. Helm refuses a second release, whose objects would be the first one's.

Component templates take a dict: "root" (the context) and "component".
*/}}

{{- define "arbiter.name" -}}
arbiter-{{ .component }}
{{- end }}

{{- define "arbiter.selector" -}}
app.kubernetes.io/name: arbiter
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "arbiter.labels" -}}
{{ include "arbiter.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: arbiter
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image's reference, from a dict: "image", and "registry" and "tag" where the image names none. */}}
{{- define "arbiter.image" -}}
{{- $registry := .image.registry | default .registry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .tag }}{{ end }}
{{- end }}

{{- define "arbiter.ownImage" -}}
{{ include "arbiter.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/* The user name under which the API server knows a component. */}}
{{- define "arbiter.user" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:{{ include "arbiter.name" . }}
{{- end }}

{{/* Namespaces whose pods the webhook never sees: JSON, which both YAML and CEL read as a list. */}}
{{- define "arbiter.unseenNamespaces" -}}
{{- concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end }}

{{- define "arbiter.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "arbiter.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "arbiter.labels" . | nindent 4 }}
  {{- with .values.serviceAccount.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Binds a ClusterRole, "role" or else the component's own, to the component's service account. */}}
{{- define "arbiter.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .name | default (include "arbiter.name" .) }}
  labels: {{- include "arbiter.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .role | default (include "arbiter.name" .) | quote }}
subjects: {{- include "arbiter.subjects" . | nindent 0 }}
{{- end }}

{{- define "arbiter.subjects" -}}
- kind: ServiceAccount
  name: {{ include "arbiter.name" . }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* Labels and annotations of a component's pods; "checksum" is of the configuration that they read once. */}}
{{- define "arbiter.podMetadata" -}}
labels:
  {{- include "arbiter.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .checksum .values.podAnnotations }}
annotations:
  {{- with .checksum }}
  checksum/config: {{ . }}
  {{- end }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What every component's pods have in common. */}}
{{- define "arbiter.podSpec" -}}
serviceAccountName: {{ include "arbiter.name" . }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Replicas on different nodes where there are several, unless the values say otherwise. */}}
{{- define "arbiter.apart" -}}
affinity:
{{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "arbiter.selector" . | nindent 12 }}
{{- end }}
{{- end }}

{{- define "arbiter.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "arbiter.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Probes of a process of ours: /healthz answers while its event loop turns, /readyz once it can work. */}}
{{- define "arbiter.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 5
{{- end }}

{{- define "arbiter.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "arbiter.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "arbiter.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .values.maxUnavailable }}
  # A replica that does not work is no reason to keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "arbiter.selector" . | nindent 6 }}
{{- end }}
