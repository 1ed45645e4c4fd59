{{- /* Whether turns and records are shared, so that there may be several processes: "true", or empty. */}}
{{- define "gateway.scaledOut" -}}
{{- if and .Values.database.existingSecret .Values.valkey.existingSecret }}true{{ end }}
{{- end }}

{{- /* Whether more than one pod may serve: "true", or empty. */}}
{{- define "gateway.severalPods" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) }}true{{ end }}
{{- end }}

{{- /* What can't run as asked fails here, with what to set. No message holds a value that could be a secret. */}}
{{- define "gateway.check" -}}
{{- $scaledOut := include "gateway.scaledOut" . }}
{{- $several := list }}
{{- if gt (int .Values.replicas) 1 }}{{ $several = append $several (printf "replicas: %d" (int .Values.replicas)) }}{{ end }}
{{- if .Values.autoscaling.enabled }}{{ $several = append $several "autoscaling.enabled" }}{{ end }}
{{- if gt (int .Values.workers) 1 }}{{ $several = append $several (printf "workers: %d" (int .Values.workers)) }}{{ end }}
{{- if and $several (not $scaledOut) }}
{{- $missing := list }}
{{- if not .Values.database.existingSecret }}
{{- $missing = append $missing "database.existingSecret (a Secret with the address of a PostgreSQL database, where tokens, jobs and the record are shared)" }}
{{- end }}
{{- if not .Values.valkey.existingSecret }}
{{- $missing = append $missing "valkey.existingSecret (a Secret with the address of a Valkey, where turns are shared: else each process would use Flxpoint's whole limit)" }}
{{- end }}
{{- fail (printf "%s: several processes need %s" (join ", " $several) (join " and " $missing)) }}
{{- end }}
{{- if and .Values.valkey.existingSecret (not .Values.database.existingSecret) }}
{{- fail "valkey.existingSecret: turns are shared for several processes, which need a database too: set database.existingSecret, or neither" }}
{{- end }}
{{- if and $scaledOut (not .Values.masterKeys.existingSecret) }}
{{- fail "masterKeys.existingSecret: with PostgreSQL and Valkey all pods need the same master keys: name a Secret that holds them" }}
{{- end }}
{{- if and (eq (include "gateway.environment" .) "production") (not .Values.masterKeys.existingSecret) }}
{{- fail "masterKeys.existingSecret: in production the gateway makes no master key: name a Secret that holds one, or leave out settings.GATEWAY_ENVIRONMENT" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas: must not exceed autoscaling.maxReplicas" }}
{{- end }}
{{- if gt (len (compact (list .Values.config.existingSecret .Values.config.existingConfigMap .Values.config.content))) 1 }}
{{- fail "config: only one of existingSecret, existingConfigMap and content can be the configuration file" }}
{{- end }}
{{- if and .Values.catalogue.existingConfigMap .Values.catalogue.content }}
{{- fail "catalogue: only one of existingConfigMap and content can be the catalogue" }}
{{- end }}
{{- if .Values.networkPolicy.enabled }}
{{- range $name := list "database" "valkey" }}
{{- if and (get (get $.Values $name) "existingSecret") (not (get (get $.Values.networkPolicy.egress $name) "to")) }}
{{- fail (printf "networkPolicy.egress.%s.to: name the pods or addresses of the %s, which can't be reached otherwise, or set networkPolicy.enabled: false" $name $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
