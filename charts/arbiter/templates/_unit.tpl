{{/*
Fails where nodes hold slices of another size than the values say: kubelets count what they gave out in the former unit,
so that one resource would mean two sizes.
*/}}
{{- define "arbiter.checkUnit" -}}
{{- if .Capabilities.APIVersions.Has "arbiter.infernum.io/v1alpha1/GpuNode" -}}
{{- $wanted := mul (regexFind "^[0-9]+" .Values.vramUnit) (ternary 1024 1 (hasSuffix "Gi" .Values.vramUnit)) -}}
{{- range $node := (lookup "arbiter.infernum.io/v1alpha1" "GpuNode" "" "").items -}}
{{- $held := div (dig "status" "unit" 0 $node | int64) 1048576 -}}
{{- $pods := list -}}
{{- range dig "status" "slices" list $node }}{{ $pods = append $pods (printf "%s/%s" .namespace .pod) }}{{ end -}}
{{- if and $pods (ne $held $wanted) -}}
{{- $said := printf "on node %s pods hold memory in units of %dMi (%s)" $node.metadata.name $held ($pods | uniq | join ", ") -}}
{{- fail (printf "vramUnit cannot be %s: %s; drain it first, or set vramUnit to %dMi" $.Values.vramUnit $said $held) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
