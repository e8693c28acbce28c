{{/* Name of the operator's objects: rhapsode-operator for the release rhapsode. */}}
{{- define "rhapsode.name" -}}
{{- $release := .Release.Name -}}
{{- $whole := ternary $release (printf "%s-rhapsode" $release) (contains "rhapsode" $release) -}}
{{- .Values.fullnameOverride | default (printf "%s-operator" ($whole | trunc 54 | trimSuffix "-")) -}}
{{- end }}

{{- define "rhapsode.serviceAccount" -}}
{{- $ours := ternary (include "rhapsode.name" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $ours -}}
{{- end }}

{{/* What selects the operator's pods. Never changes: a Deployment's selector cannot. */}}
{{- define "rhapsode.selector" -}}
app.kubernetes.io/name: rhapsode-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of every object; one of ours is never replaced by a user's. */}}
{{- define "rhapsode.labels" -}}
{{- $ours := include "rhapsode.selector" . | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $ours "app.kubernetes.io/part-of" "rhapsode" -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- merge $ours .Values.commonLabels | toYaml -}}
{{- end }}

{{/* The same and some more: (list $ .Values.podLabels) */}}
{{- define "rhapsode.labelsAnd" -}}
{{- merge (include "rhapsode.labels" (index . 0) | fromYaml) (index . 1) | toYaml -}}
{{- end }}

{{/* The whole reference of an image: (list $ "operator"), by the key of values.image and the end of its name. */}}
{{- define "rhapsode.image" -}}
{{- $root := index . 0 -}}{{- $key := index . 1 -}}{{- $name := index . 2 -}}
{{- $image := $root.Values.image -}}
{{- $tag := $image.tag | default $root.Chart.AppVersion -}}
{{- $prefix := ternary (printf "%s/" (trimSuffix "/" $image.registry)) "" (ne $image.registry "") -}}
{{- index $image $key | default (printf "%srhapsode-%s:%s" $prefix $name $tag) -}}
{{- end }}

{{/* Namespaces of InferenceWorkers that are known at install, as a JSON list. */}}
{{- define "rhapsode.workerNamespaces" -}}
{{- .Values.watchNamespaces | default .Values.networkPolicy.relays.namespaces | uniq | toJson -}}
{{- end }}

{{/* Refuse what no schema can: values that contradict one another. `helm install --wait` would wait for it in vain. */}}
{{- define "rhapsode.check" -}}
{{- with .Values.lease -}}
{{- if not (and (lt (float64 .retrySeconds) (float64 .renewSeconds)) (lt (float64 .renewSeconds) (float64 .seconds))) -}}
{{- printf "lease.retrySeconds (%v) must be less than lease.renewSeconds (%v), and that less than lease.seconds (%v)" .retrySeconds .renewSeconds .seconds | fail -}}
{{- end -}}
{{- end -}}
{{- end }}
