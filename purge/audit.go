package purge

import (
	"fmt"
	"net/http"

	"go.uber.org/zap"
)

// maxLogged is how many selectors of a kind the log names; beyond it they are counted.
const maxLogged = 20

// logPurge writes the one log line of a purge: who sent it, what it selected, how many responses it
// matched, and how far it reaches in a fleet. more says how it came, if not by the admin API. A dry
// run and a failed purge, which may hold in memory, are logged too.
func logPurge(log *zap.Logger, r *http.Request, s Selectors, purged Purged, err error, more ...zap.Field) {
	fields := append([]zap.Field{zap.String("remote_addr", r.RemoteAddr)}, more...)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		fields = append(fields, zap.String("client_certificate", r.TLS.PeerCertificates[0].Subject.String()))
	}
	for _, list := range []struct {
		name string
		all  []string
	}{
		{"tags", s.Tags},
		{"urls", s.URLs},
		{"prefixes", s.Prefixes},
		{"hosts", s.Hosts},
		{"ids", s.IDs},
		{"zones", s.Zones},
	} {
		if len(list.all) > 0 {
			fields = append(fields, zap.Strings(list.name, shorten(list.all)))
		}
	}
	fields = append(fields,
		zap.Bool("all", s.All),
		zap.Bool("soft", s.Soft),
		zap.Bool("dry_run", s.DryRun),
		zap.Int("matched", purged.Matched),
	)
	if reach := purged.Reach; reach != nil {
		fields = append(fields,
			zap.Int("nodes", reach.Nodes), zap.Strings("fenced", reach.Fenced), zap.Strings("uncertain", reach.Uncertain))
	}
	if err != nil {
		log.Error("purge failed", append(fields, zap.Error(err))...)
		return
	}
	log.Info("purge", fields...)
}

func shorten(list []string) []string {
	if len(list) <= maxLogged {
		return list
	}
	return append(list[:maxLogged:maxLogged], fmt.Sprintf("… and %d more", len(list)-maxLogged))
}
