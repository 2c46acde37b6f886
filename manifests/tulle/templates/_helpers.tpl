{{- /* The chart keeps to the subset of templates that `tulle install` renders (cli/template.py). */ -}}

{{- define "tulle.labels" -}}
app.kubernetes.io/part-of: tulle
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{- define "tulle.webhook.selector" -}}
app.kubernetes.io/name: tulle-webhook
app.kubernetes.io/part-of: tulle
{{- end -}}

{{- define "tulle.controller.selector" -}}
app.kubernetes.io/name: tulle-controller
app.kubernetes.io/part-of: tulle
{{- end -}}

{{- define "tulle.webhook.labels" -}}
app.kubernetes.io/name: tulle-webhook
app.kubernetes.io/component: webhook
{{ include "tulle.labels" . }}
{{- end -}}

{{- define "tulle.controller.labels" -}}
app.kubernetes.io/name: tulle-controller
app.kubernetes.io/component: controller
{{ include "tulle.labels" . }}
{{- end -}}

{{- /* Whether the webhook's registrations are guarded: "yes" or nothing. */ -}}
{{- define "tulle.guard" -}}
{{- if eq .Values.webhook.registrationGuard "always" -}}
yes
{{- else if eq .Values.webhook.registrationGuard "auto" -}}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy" -}}
yes
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tulle.pod-security" -}}
runAsNonRoot: true
runAsUser: 2103
runAsGroup: 2103
fsGroup: 2103
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tulle.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
