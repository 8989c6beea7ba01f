// SPDX-License-Identifier: Apache-2.0

// Package otlp sends traces to an OpenTelemetry collector. The spans, their
// batches and their encoding are OpenTelemetry's own; only the request is made
// here, since the library's exporter over HTTP brings gRPC with it, 5 MB of program.
// See docs/dependencies.md.
package otlp

import (
	"context"
	"encoding/hex"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"thaw.dev/thaw/internal/trace"
)

// Exporter sends traces in the background, in batches. It is safe for
// concurrent use; a nil one drops all.
type Exporter struct {
	provider *sdk.TracerProvider
	tracer   oteltrace.Tracer
}

// FromEnv returns an exporter to where OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or
// OTEL_EXPORTER_OTLP_ENDPOINT says, nil where neither is set. Of OpenTelemetry's
// other variables it obeys OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME,
// OTEL_RESOURCE_ATTRIBUTES, and those of the batches (OTEL_BSP_...). Errors:
// [thaw.Invalid] for an endpoint or headers that are none. What can't be sent
// later is told in the log, which is where OpenTelemetry's errors go in the whole
// process.
func FromEnv(log *slog.Logger) (*Exporter, error) {
	client, err := clientFromEnv(os.Getenv)
	if client == nil || err != nil {
		return nil, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are lost", "err", err) }))
	about, err := resource.Merge(resource.NewSchemaless(attribute.String("service.name", "thaw")), resource.Environment())
	if err != nil {
		return nil, err
	}
	provider := sdk.NewTracerProvider(sdk.WithResource(about), sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithBatcher(otlptrace.NewUnstarted(client)))
	return &Exporter{provider: provider, tracer: provider.Tracer("thaw.dev/thaw")}, nil
}

// Export sends a trace. header is the invocation's X-Amzn-Trace-Id: where its
// sender samples, the trace is a part of the sender's. It does not wait, and
// drops traces where the collector is too slow.
func (e *Exporter) Export(t trace.Trace, header string) {
	if e == nil {
		return
	}
	ctx := context.Background()
	if parent, ok := parseHeader(header); ok {
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, parent)
	}
	ctx, root := e.tracer.Start(ctx, t.Function, oteltrace.WithTimestamp(t.Begin), oteltrace.WithSpanKind(oteltrace.SpanKindServer),
		oteltrace.WithAttributes(
			attribute.String("faas.invocation_id", t.RequestID), attribute.String("faas.name", t.Function),
			attribute.String("faas.version", t.Version), attribute.Bool("faas.coldstart", t.Cold),
			attribute.String("cloud.account.id", t.Tenant)))
	if t.Error != "" {
		root.SetStatus(codes.Error, t.Error)
	}
	e.spans(ctx, t.Begin, t.Spans)
	root.End(oteltrace.WithTimestamp(t.Begin.Add(t.Took())))
}

func (e *Exporter) spans(ctx context.Context, begin time.Time, spans []trace.Span) {
	for _, s := range spans {
		ctx, span := e.tracer.Start(ctx, s.Name, oteltrace.WithTimestamp(begin.Add(s.Start)))
		for name, value := range s.Numbers {
			span.SetAttributes(attribute.Int64("thaw."+name, value))
		}
		for _, tier := range s.Tiers {
			of := "thaw.tier." + tier.Name
			span.SetAttributes(attribute.Int64(of+".chunks", tier.Chunks), attribute.Int64(of+".bytes", tier.Bytes),
				attribute.Int64(of+".time_ns", int64(tier.Time)))
		}
		e.spans(ctx, begin, s.Spans)
		span.End(oteltrace.WithTimestamp(begin.Add(s.Start + s.Took)))
	}
}

// Close sends what waits, until ctx ends.
func (e *Exporter) Close(ctx context.Context) error {
	if e == nil {
		return nil
	}
	return e.provider.Shutdown(ctx)
}

// parseHeader reads Root=1-TIME-ID;Parent=SPAN;Sampled=1, of which the root's
// two parts are an OpenTelemetry trace id.
func parseHeader(header string) (oteltrace.SpanContext, bool) {
	var c oteltrace.SpanContextConfig
	for part := range strings.SplitSeq(header, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Root":
			id, _ := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(value, "1-"), "-", ""))
			copy(c.TraceID[:], id)
		case "Parent":
			id, _ := hex.DecodeString(value)
			copy(c.SpanID[:], id)
		case "Sampled":
			if value == "1" {
				c.TraceFlags = oteltrace.FlagsSampled
			}
		}
	}
	context := oteltrace.NewSpanContext(c)
	return context, context.IsValid() && context.IsSampled()
}
