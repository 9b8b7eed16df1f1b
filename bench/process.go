package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The server has one core and the generator, with the origin, another: what the server reaches on
// one core is then a measure of its own cost, not of who got the processor.
const (
	serverCore    = "0"
	generatorCore = "1"
)

// process is a program that the bench has started.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// start runs a program pinned to core ("" for any), its output in a file.
func (b *bench) start(name, core string, env []string, argv ...string) (*process, error) {
	if core != "" && b.pin {
		argv = append([]string{"taskset", "-c", core}, argv...)
	}
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = b.dir
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	b.running = append(b.running, p)
	return p, nil
}

// stop ends the program, with force if it takes longer than 20 s.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = p.log.Close()
}

// await polls url until it answers. It polls quickly: the restart case measures with it.
func (b *bench) await(ctx context.Context, p *process, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if _, err := b.request(ctx, http.MethodGet, url); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended:\n%s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer at %s:\n%s", p.name, url, p.tail())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// tail is the end of the program's output.
func (p *process) tail() string {
	const most = 2000
	out, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(out[max(0, len(out)-most):])
}

// family is the program's process and those it has begun: nginx and Varnish serve from a child.
func (p *process) family() []int {
	pids := []int{p.cmd.Process.Pid}
	for i := 0; i < len(pids); i++ {
		out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pids[i]))
		if err != nil {
			continue
		}
		for text := range strings.FieldsSeq(string(out)) {
			if pid, err := strconv.Atoi(text); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// cpu is the processor time the program has used, in steps of 10 ms (/proc/PID/stat, fields 14 and
// 15 in ticks of 1/100 s).
func (p *process) cpu() time.Duration {
	var ticks int64
	for _, pid := range p.family() {
		out, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(out), ") ") // the name before may hold anything
		fields := strings.Fields(rest)
		for _, i := range []int{11, 12} {
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// rssAnon is the program's resident memory without mapped files, in bytes.
func (p *process) rssAnon() (int64, error) {
	out, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(out)) {
		if text, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no RssAnon in /proc: the memory cases need Linux")
}

// tool runs a generator to its end.
func (b *bench) tool(ctx context.Context, argv ...string) ([]byte, error) {
	if b.pin {
		argv = append([]string{"taskset", "-c", generatorCore}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, errs.String())
	}
	return out, nil
}

// reply is an answer as far as the bench looks at it.
type reply struct {
	status      int
	proto       string
	size        int64
	header      http.Header
	cacheStatus string
	body        []byte // where it is small
}

// request sends one request with Go's client.
func (b *bench) request(ctx context.Context, method, url string) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return reply{}, err
	}
	return b.do(r)
}

func (b *bench) do(r *http.Request) (reply, error) {
	resp, err := b.client.Do(r) //nolint:gosec // what the bench has started itself
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	const small = 64 << 10
	var body bytes.Buffer
	n, err := io.CopyN(&body, resp.Body, small)
	if err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, resp.Body)
		n += rest
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	return reply{
		status: resp.StatusCode, proto: resp.Proto, size: n, header: resp.Header,
		cacheStatus: resp.Header.Get("Cache-Status"), body: body.Bytes(),
	}, err
}

// freeAddress returns an address on loopback at which nothing listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
