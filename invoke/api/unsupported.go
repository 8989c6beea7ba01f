// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// unsupportedOperations names the other operations of Lambda, so that a client
// learns that the server lacks one rather than that the path is wrong. Where
// two differ by query only, one stands for both. From the model of the SDKs
// (aws-sdk-go-v2/service/lambda v1.113.0).
const unsupportedOperations = `
AddLayerVersionPermission POST /2018-10-31/layers/{layerName}/versions/{version}/policy
AddPermission POST /2015-03-31/functions/{function}/policy
CheckpointDurableExecution POST /2025-12-01/durable-executions/{durableExecutionArn}/checkpoint
CreateAlias POST /2015-03-31/functions/{function}/aliases
CreateCapacityProvider POST /2025-11-30/capacity-providers
CreateCodeSigningConfig POST /2020-04-22/code-signing-configs
CreateEventSourceMapping POST /2015-03-31/event-source-mappings
CreateFunctionUrlConfig POST /2021-10-31/functions/{function}/url
DeleteAlias DELETE /2015-03-31/functions/{function}/aliases/{name}
DeleteCapacityProvider DELETE /2025-11-30/capacity-providers/{capacityProviderName}
DeleteCodeSigningConfig DELETE /2020-04-22/code-signing-configs/{codeSigningConfigArn}
DeleteEventSourceMapping DELETE /2015-03-31/event-source-mappings/{uuid}
DeleteFunctionCodeSigningConfig DELETE /2020-06-30/functions/{function}/code-signing-config
DeleteFunctionConcurrency DELETE /2017-10-31/functions/{function}/concurrency
DeleteFunctionEventInvokeConfig DELETE /2019-09-25/functions/{function}/event-invoke-config
DeleteFunctionUrlConfig DELETE /2021-10-31/functions/{function}/url
DeleteLayerVersion DELETE /2018-10-31/layers/{layerName}/versions/{version}
DeleteProvisionedConcurrencyConfig DELETE /2019-09-30/functions/{function}/provisioned-concurrency
DeleteResourcePolicy DELETE /2026-07-09/resource-policy/{resourceArn}
GetAlias GET /2015-03-31/functions/{function}/aliases/{name}
GetCapacityProvider GET /2025-11-30/capacity-providers/{capacityProviderName}
GetCodeSigningConfig GET /2020-04-22/code-signing-configs/{codeSigningConfigArn}
GetDurableExecution GET /2025-12-01/durable-executions/{durableExecutionArn}
GetDurableExecutionHistory GET /2025-12-01/durable-executions/{durableExecutionArn}/history
GetDurableExecutionState GET /2025-12-01/durable-executions/{durableExecutionArn}/state
GetEventSourceMapping GET /2015-03-31/event-source-mappings/{uuid}
GetFunctionCodeSigningConfig GET /2020-06-30/functions/{function}/code-signing-config
GetFunctionEventInvokeConfig GET /2019-09-25/functions/{function}/event-invoke-config
GetFunctionRecursionConfig GET /2024-08-31/functions/{function}/recursion-config
GetFunctionScalingConfig GET /2025-11-30/functions/{function}/function-scaling-config
GetFunctionUrlConfig GET /2021-10-31/functions/{function}/url
GetLayerVersion GET /2018-10-31/layers/{layerName}/versions/{version}
GetLayerVersionByArn GET /2018-10-31/layers
GetLayerVersionPolicy GET /2018-10-31/layers/{layerName}/versions/{version}/policy
GetPolicy GET /2015-03-31/functions/{function}/policy
GetProvisionedConcurrencyConfig GET /2019-09-30/functions/{function}/provisioned-concurrency
GetResourcePolicy GET /2026-07-09/resource-policy/{resourceArn}
GetRuntimeManagementConfig GET /2021-07-20/functions/{function}/runtime-management-config
InvokeAsync POST /2014-11-13/functions/{function}/invoke-async
InvokeWithResponseStream POST /2021-11-15/functions/{function}/response-streaming-invocations
ListCapacityProviders GET /2025-11-30/capacity-providers
ListCodeSigningConfigs GET /2020-04-22/code-signing-configs
ListDurableExecutionsByFunction GET /2025-12-01/functions/{function}/durable-executions
ListEventSourceMappings GET /2015-03-31/event-source-mappings
ListFunctionEventInvokeConfigs GET /2019-09-25/functions/{function}/event-invoke-config/list
ListFunctionUrlConfigs GET /2021-10-31/functions/{function}/urls
ListFunctionVersionsByCapacityProvider GET /2025-11-30/capacity-providers/{capacityProviderName}/function-versions
ListFunctionsByCodeSigningConfig GET /2020-04-22/code-signing-configs/{codeSigningConfigArn}/functions
ListLayerVersions GET /2018-10-31/layers/{layerName}/versions
PublishLayerVersion POST /2018-10-31/layers/{layerName}/versions
PublishVersion POST /2015-03-31/functions/{function}/versions
PutFunctionCodeSigningConfig PUT /2020-06-30/functions/{function}/code-signing-config
PutFunctionConcurrency PUT /2017-10-31/functions/{function}/concurrency
PutFunctionEventInvokeConfig PUT /2019-09-25/functions/{function}/event-invoke-config
PutFunctionRecursionConfig PUT /2024-08-31/functions/{function}/recursion-config
PutFunctionScalingConfig PUT /2025-11-30/functions/{function}/function-scaling-config
PutProvisionedConcurrencyConfig PUT /2019-09-30/functions/{function}/provisioned-concurrency
PutResourcePolicy PUT /2026-07-09/resource-policy/{resourceArn}
PutRuntimeManagementConfig PUT /2021-07-20/functions/{function}/runtime-management-config
RemoveLayerVersionPermission DELETE /2018-10-31/layers/{layerName}/versions/{version}/policy/{statementId}
RemovePermission DELETE /2015-03-31/functions/{function}/policy/{statementId}
SendDurableExecutionCallbackFailure POST /2025-12-01/durable-execution-callbacks/{callbackId}/fail
SendDurableExecutionCallbackHeartbeat POST /2025-12-01/durable-execution-callbacks/{callbackId}/heartbeat
SendDurableExecutionCallbackSuccess POST /2025-12-01/durable-execution-callbacks/{callbackId}/succeed
StopDurableExecution POST /2025-12-01/durable-executions/{durableExecutionArn}/stop
UpdateAlias PUT /2015-03-31/functions/{function}/aliases/{name}
UpdateCapacityProvider PUT /2025-11-30/capacity-providers/{capacityProviderName}
UpdateCodeSigningConfig PUT /2020-04-22/code-signing-configs/{codeSigningConfigArn}
UpdateEventSourceMapping PUT /2015-03-31/event-source-mappings/{uuid}
UpdateFunctionEventInvokeConfig POST /2019-09-25/functions/{function}/event-invoke-config
UpdateFunctionUrlConfig PUT /2021-10-31/functions/{function}/url`

func unsupported() []operation {
	var operations []operation
	for line := range strings.Lines(strings.TrimPrefix(unsupportedOperations, "\n")) {
		part := strings.Fields(line)
		operations = append(operations, operation{name: part[0], method: part[1], path: part[2], serve: notSupported})
	}
	return operations
}
