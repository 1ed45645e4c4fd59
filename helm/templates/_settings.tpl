{{- /* A number as it was written: values files are read as floats, and 1000000 would come out as 1e+06. */}}
{{- define "gateway.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "gateway.environment" -}}
{{- $default := ternary "production" "development" (not (empty .Values.masterKeys.existingSecret)) }}
{{- .Values.settings.GATEWAY_ENVIRONMENT | default $default }}
{{- end }}

{{- define "gateway.port" -}}
{{- int (.Values.settings.GATEWAY_PORT | default 8080) }}
{{- end }}

{{- /* Seconds from the pod's end to its being killed: until nobody sends to it any more, the grace of waiting calls, the longest send, the record. */}}
{{- define "gateway.terminationSeconds" -}}
{{- $grace := .Values.settings.GATEWAY_SHUTDOWN_GRACE }}
{{- if kindIs "invalid" $grace }}{{ $grace = 25 }}{{ end }}
{{- $longestSend := 65 }}
{{- $lastRecords := 10 }}
{{- add (int .Values.preStopSeconds) (ceil $grace | int) $longestSend $lastRecords }}
{{- end }}

{{- /* Longer than a caller may wait, so that it gets the gateway's answer and not the proxy's. */}}
{{- define "gateway.readTimeout" -}}
{{- add (ceil (.Values.settings.GATEWAY_MAX_WAIT | default 120) | int) 30 }}
{{- end }}

{{- /* What is spoken at the port: of the gateway itself, whatever an Ingress before it speaks. */}}
{{- define "gateway.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end }}
{{- end }}

{{- define "gateway.portOfUrl" -}}
{{- $url := urlParse . }}
{{- if regexMatch ":[0-9]+$" $url.host }}{{ splitList ":" $url.host | last }}{{ else if eq $url.scheme "http" }}80{{ else }}443{{ end }}
{{- end }}

{{- define "gateway.databaseEnvironment" -}}
{{- with .Values.database.existingSecret }}
- name: GATEWAY_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.database.key }}
{{- end }}
{{- end }}

{{- define "gateway.variables" -}}
- name: GATEWAY_ENVIRONMENT
  value: {{ include "gateway.environment" . }}
- name: GATEWAY_HOST
  value: {{ .Values.settings.GATEWAY_HOST | default "0.0.0.0" | quote }}
- name: GATEWAY_PORT
  value: {{ include "gateway.port" . | quote }}
- name: GATEWAY_STATE_DIR
  value: /var/lib/flxpoint-gateway/state
{{- if .Values.masterKeys.existingSecret }}
- name: GATEWAY_MASTER_KEYS_FILE
  value: /run/flxpoint-gateway/keys/{{ .Values.masterKeys.key }}
{{- end }}
{{- include "gateway.databaseEnvironment" . }}
{{- with .Values.valkey.existingSecret }}
- name: GATEWAY_VALKEY_URL
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.valkey.key }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: GATEWAY_TLS_CERT
  value: /run/flxpoint-gateway/tls/tls.crt
- name: GATEWAY_TLS_KEY
  value: /run/flxpoint-gateway/tls/tls.key
{{- end }}
{{- if include "gateway.configVolume" . }}
- name: GATEWAY_CONFIG_FILE
  value: /run/flxpoint-gateway/config/{{ .Values.config.key }}
{{- end }}
{{- if or .Values.catalogue.existingConfigMap .Values.catalogue.content }}
- name: GATEWAY_CATALOGUE
  value: /run/flxpoint-gateway/catalogue/{{ .Values.catalogue.key }}
{{- end }}
{{- range $name, $value := omit .Values.settings "GATEWAY_ENVIRONMENT" "GATEWAY_HOST" "GATEWAY_PORT" }}
- name: {{ $name }}
  value: {{ include "gateway.text" $value | quote }}
{{- end }}
{{- with .Values.environment }}
{{ toYaml . }}
{{- end }}
{{- end }}
