{{/* The webhook's certificate: made here, kept by somebody else, or by cert-manager. */}}

{{- define "arbiter.webhookHost" -}}
arbiter-webhook.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "arbiter.tlsSecret" -}}
{{ .Values.tls.existingSecret | default "arbiter-webhook-tls" }}
{{- end }}

{{/*
YAML with "bundle" (the authorities that the API server trusts) and, where the chart makes the certificate,
"certificate", "key" and "renewAfter". What the cluster has is kept until it is time for another; the former authority
is then trusted beside the new one, since replicas read their new certificate at different times.
*/}}
{{- define "arbiter.tls" -}}
{{- $tls := .Values.tls -}}
{{- if $tls.existingSecret -}}
{{- dict "bundle" $tls.caBundle | toYaml -}}
{{- else if not $tls.certManager.enabled -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "arbiter.tlsSecret" .) | default dict -}}
{{- $renewAfter := dig "metadata" "annotations" "arbiter.infernum.io/renew-after" "0" $secret -}}
{{- $now := now | unixEpoch | int64 -}}
{{- if gt (int64 $renewAfter) $now -}}
{{- $data := $secret.data -}}
{{- $kept := dict "certificate" (b64dec (index $data "tls.crt")) "key" (b64dec (index $data "tls.key")) -}}
{{- merge $kept (dict "bundle" (b64dec (index $data "ca.crt")) "renewAfter" $renewAfter) | toYaml -}}
{{- else -}}
{{- $former := dig "data" "ca.crt" "" $secret | b64dec -}}
{{- $days := int $tls.validityDays -}}
{{- $authority := genCA "arbiter-webhook" $days -}}
{{- $host := include "arbiter.webhookHost" . -}}
{{- $signed := genSignedCert $host nil (list $host) $days $authority -}}
{{- $made := dict "certificate" $signed.Cert "key" $signed.Key "bundle" (print $authority.Cert $former) -}}
{{- merge $made (dict "renewAfter" (add $now (mul $days 43200) | toString)) | toYaml -}}
{{- end -}}
{{- end -}}
{{- end }}
