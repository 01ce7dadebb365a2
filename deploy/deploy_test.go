// Package deploy_test holds what is installed against the program and against each other. What is built of it is installed and
// run by .ci/package.
package deploy_test

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/waybill-token/waybill/internal/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// value reads YAML.
func value[T any](t *testing.T, name, text string) T {
	t.Helper()
	var v T
	if err := yaml.Load([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// directives are the values of a unit, by key, in their order.
func directives(t *testing.T, unit string) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	for line := range strings.Lines(read(t, filepath.Join("systemd", unit))) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			found[key] = append(found[key], value)
		}
	}
	return found
}

// The example can be served by the unit: sockets, folders and credentials are those of both.
func TestUnitServesExample(t *testing.T) {
	t.Parallel()
	unit := directives(t, "waybill.service")
	const file = "/etc/waybill/waybill.yaml"
	cfg, err := config.Parse(file, []byte(read(t, "waybill.yaml")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "/usr/bin/waybill serve --config " + file; !slices.Equal(unit["ExecStart"], []string{want}) || !slices.Equal(unit["AssertPathExists"], []string{file}) {
		t.Errorf("the unit runs %q, if there is %q", unit["ExecStart"], unit["AssertPathExists"])
	}
	if cfg.Data != "/etc/waybill/data" {
		t.Errorf("the data are in %s, to which no link leads", cfg.Data)
	}
	for name, address := range map[string]config.Address{"public": cfg.Listen.Public, "internal": cfg.Listen.Internal} {
		socket := directives(t, "waybill-"+name+".socket")
		if !slices.Equal(socket["ListenStream"], []string{string(address)}) || !slices.Equal(socket["FileDescriptorName"], []string{name}) {
			t.Errorf("the %s socket is %q at %q, and the example says %s", name, socket["FileDescriptorName"], socket["ListenStream"], address)
		}
	}
	stop, err := time.ParseDuration(unit["TimeoutStopSec"][0])
	if least := cfg.Listen.ShutdownDelay + cfg.Listen.Drain + 10*time.Second; err != nil || stop < least {
		t.Errorf("a stop may take %s, and takes up to %s: %v", stop, least, err)
	}
}

// Whatever is named as a secret is a credential: in the example, in the variables, on the page.
func TestSecretsAreCredentials(t *testing.T) {
	t.Parallel()
	const folder = "/etc/waybill/secrets/"
	unit := directives(t, "waybill.service")
	var names, defaults []string
	for _, credential := range unit["LoadCredential"] {
		name, source, _ := strings.Cut(credential, ":")
		if source != folder+name {
			t.Errorf("%s comes from %s", name, source)
		}
		names = append(names, name)
	}
	for _, credential := range unit["SetCredential"] {
		name, content, _ := strings.Cut(credential, ":")
		if content != `\n` {
			t.Errorf("%s that is absent holds %q", name, content)
		}
		defaults = append(defaults, name)
	}
	if !slices.Equal(names, defaults) || !slices.Equal(unit["BindReadOnlyPaths"], []string{"%d:" + strings.TrimSuffix(folder, "/")}) {
		t.Errorf("credentials %q, of which may be absent %q, are at %q", names, defaults, unit["BindReadOnlyPaths"])
	}
	page := read(t, "README.md")
	for _, name := range names {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the page does not tell of %s", name)
		}
	}
	named := regexp.MustCompile(`secrets/([a-z.-]*[a-z])`)
	for _, file := range []string{"waybill.yaml", "package/default"} {
		found := named.FindAllStringSubmatch(read(t, file), -1)
		if len(found) < 2 {
			t.Errorf("%s names %d secrets", file, len(found))
		}
		for _, match := range found {
			if !slices.Contains(names, match[1]) {
				t.Errorf("%s names %s, which is no credential", file, match[1])
			}
		}
	}
}

// A release holds what deploy/build makes.
func TestReleaseHoldsThePackages(t *testing.T) {
	t.Parallel()
	type pack struct {
		Contents                                []map[string]any
		Scripts                                 map[string]string
		Section, Priority, Maintainer, Homepage string
		License, Description                    string
		Recommends                              []string
		RPM                                     map[string]any `yaml:"rpm"`
	}
	ours := value[pack](t, "nfpm.yaml", read(t, "nfpm.yaml"))
	release := value[struct {
		Nfpms  []pack
		Builds []struct{ Flags, Ldflags, Env []string }
	}](t, "goreleaser.yaml", read(t, "goreleaser.yaml"))
	if len(release.Nfpms) != 1 || len(release.Builds) != 1 {
		t.Fatalf("%d packages, %d builds", len(release.Nfpms), len(release.Builds))
	}
	program := slices.IndexFunc(ours.Contents, func(c map[string]any) bool { return c["dst"] == "/usr/bin/waybill" })
	if program < 0 {
		t.Fatal("no program")
	}
	for _, c := range ours.Contents {
		source, _ := c["src"].(string)
		if strings.HasPrefix(source, "dist/") || source == "" || c["type"] == "symlink" {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", source)); err != nil {
			t.Error(err)
		}
	}
	ours.Contents = slices.Delete(ours.Contents, program, program+1) // which goreleaser puts there by itself
	if !reflect.DeepEqual(ours, release.Nfpms[0]) {
		t.Errorf("deploy/build packs\n%v\nand a release\n%v", ours, release.Nfpms[0])
	}
	build := read(t, "build")
	for _, flag := range slices.Concat(release.Builds[0].Flags, release.Builds[0].Ldflags, release.Builds[0].Env) {
		if !strings.Contains(build, strings.TrimSuffix(flag, "=")) {
			t.Errorf("a release is built with %s, and deploy/build is not", flag)
		}
	}
}

// instructions are those of the Containerfile.
func instructions(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for line := range strings.Lines(read(t, "Containerfile")) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == strings.ToUpper(name) && name != "#" {
			found[name] = rest
		}
	}
	return found
}

// These are the parts of manifests that promise something.
type (
	labels map[string]string

	metadata struct {
		Name   string
		Labels labels
	}

	probe struct {
		HTTPGet struct{ Path, Port string }
	}

	container struct {
		Image                                       string
		Env                                         []struct{ Name, Value string }
		Ports                                       []port
		StartupProbe, ReadinessProbe, LivenessProbe probe
		Resources                                   struct{ Requests, Limits map[string]string }
		SecurityContext                             struct {
			AllowPrivilegeEscalation, ReadOnlyRootFilesystem bool
			Capabilities                                     struct{ Drop, Add []string }
		}
		VolumeMounts []struct {
			Name, MountPath string
			ReadOnly        bool
		}
	}

	port struct {
		Name                string
		ContainerPort, Port int
		TargetPort          string
	}

	manifest struct {
		Kind     string
		Metadata metadata
		Data     map[string]string
		Spec     struct {
			Replicas     int
			MinAvailable int
			PodSelector  struct{ MatchLabels labels }
			PolicyTypes  []string
			Ports        []port
			Ingress      []struct {
				From []struct {
					PodSelector struct{ MatchLabels labels }
				}
				Ports []struct {
					Protocol string
					Port     int
				}
			}
			Template struct {
				Metadata metadata
				Spec     struct {
					AutomountServiceAccountToken, EnableServiceLinks *bool
					TerminationGracePeriodSeconds                    int
					SecurityContext                                  struct {
						RunAsNonRoot                   bool
						RunAsUser, RunAsGroup, FSGroup int
						FSGroupChangePolicy            string
						SeccompProfile                 struct{ Type string }
					}
					Containers []container
					Volumes    []struct {
						Name      string
						ConfigMap struct{ Name string }
						Secret    struct {
							SecretName  string
							DefaultMode int
						}
						EmptyDir map[string]string
					}
				}
			}
		}
	}
)

// manifests are all documents, by their kinds.
func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	files, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]manifest)
	for _, file := range files {
		for document := range strings.SplitSeq(read(t, file), "\n---\n") {
			tree := value[any](t, file, document)
			text, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			var m manifest
			if err := json.Unmarshal(text, &m); err != nil { // which takes no notice of case
				t.Fatal(err)
			}
			if found[m.Kind].Kind != "" || m.Metadata.Name != "waybill" {
				t.Errorf("%s: another %s, %s", file, m.Kind, m.Metadata.Name)
			}
			found[m.Kind] = m
		}
	}
	return found
}

// The configuration that the pods mount can be read with the variables that they get, and says what the manifests promise.
func TestPodsServeTheirConfiguration(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	pod := all["Deployment"].Spec.Template.Spec
	c := pod.Containers[0]
	image := instructions(t)
	environ := strings.Fields(image["ENV"])
	secrets := t.TempDir() // in place of the mounted ones
	mounted := "/run/secrets/waybill"
	for _, v := range c.Env {
		if strings.HasPrefix(v.Value, mounted+"/") {
			if err := os.WriteFile(filepath.Join(secrets, path.Base(v.Value)), []byte("geheimnis"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		environ = append(environ, v.Name+"="+strings.Replace(v.Value, mounted, secrets, 1))
	}
	mounts := make(map[string]string)
	for _, m := range c.VolumeMounts {
		mounts[m.Name] = m.MountPath
		if !m.ReadOnly && m.Name != "data" {
			t.Errorf("%s can be written to", m.MountPath)
		}
	}
	var command []string
	if err := json.Unmarshal([]byte(image["CMD"]), &command); err != nil {
		t.Fatal(err)
	}
	file := command[len(command)-1]
	if path.Dir(file) != mounts["configuration"] || mounts["secrets"] != mounted {
		t.Errorf("the image reads %s, and the mounts are %v", file, mounts)
	}
	cfg, err := config.Parse(file, []byte(all["ConfigMap"].Data[path.Base(file)]), environ)
	if err != nil {
		t.Fatal(err)
	}
	if string(cfg.Data) != mounts["data"] || image["VOLUME"] != mounts["data"] {
		t.Errorf("the data are in %s, and the volume is at %s", cfg.Data, mounts["data"])
	}
	for _, file := range []string{string(cfg.Party.Key), string(cfg.Tokens.Keys)} {
		if path.Dir(file) != mounted {
			t.Errorf("%s is not mounted", file)
		}
	}
	if cfg.State.Memory() {
		t.Error("several servers share no state")
	}
	if grace := time.Duration(pod.TerminationGracePeriodSeconds) * time.Second; grace < cfg.Listen.ShutdownDelay+cfg.Listen.Drain+5*time.Second || cfg.Listen.ShutdownDelay == 0 {
		t.Errorf("a stop may take %s, and takes %s and %s", grace, cfg.Listen.ShutdownDelay, cfg.Listen.Drain)
	}
	for i, address := range []config.Address{cfg.Listen.Public, cfg.Listen.Internal} {
		if want := ":" + strconv.Itoa(c.Ports[i].ContainerPort); c.Ports[i].Name != []string{"public", "internal"}[i] || string(address) != want {
			t.Errorf("%s is at %s, and the port of the container is %s", c.Ports[i].Name, address, want)
		}
	}
	for _, p := range []struct {
		probe
		path string
	}{{c.StartupProbe, "/livez"}, {c.ReadinessProbe, "/readyz"}, {c.LivenessProbe, "/livez"}} {
		if p.HTTPGet.Port != "internal" || p.HTTPGet.Path != p.path {
			t.Errorf("a probe asks %v, want %s", p.HTTPGet, p.path)
		}
	}
}

// The page makes the secret that the pods mount.
func TestPageMakesTheSecret(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	made := regexp.MustCompile(`--from-file=([a-z.-]+)`).FindAllStringSubmatch(read(t, "README.md"), -1)
	var names []string
	for _, match := range made {
		names = append(names, match[1])
	}
	texts := all["ConfigMap"].Data["waybill.yaml"]
	for _, v := range all["Deployment"].Spec.Template.Spec.Containers[0].Env {
		texts += "\n" + v.Value
	}
	var used []string
	for _, match := range regexp.MustCompile(`/run/secrets/waybill/([a-z.-]*[a-z])`).FindAllStringSubmatch(texts, -1) {
		used = append(used, match[1])
	}
	slices.Sort(names)
	slices.Sort(used)
	if len(used) == 0 || !slices.Equal(names, used) {
		t.Errorf("the page makes %q, and the pods use %q", names, used)
	}
}

// Pods may do as little as can be, as the account of the image.
func TestPodsAreConfined(t *testing.T) {
	t.Parallel()
	pod := manifests(t)["Deployment"].Spec.Template.Spec
	c, user := pod.Containers[0], pod.SecurityContext
	if account := strconv.Itoa(user.RunAsUser) + ":" + strconv.Itoa(user.RunAsGroup); account != instructions(t)["USER"] || !user.RunAsNonRoot || user.FSGroup != user.RunAsGroup {
		t.Errorf("pods run as %s, the image as %s: %+v", account, instructions(t)["USER"], user)
	}
	if user.SeccompProfile.Type != "RuntimeDefault" || user.FSGroupChangePolicy != "OnRootMismatch" {
		t.Errorf("%+v", user)
	}
	if s := c.SecurityContext; s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || s.Capabilities.Add != nil {
		t.Errorf("%+v", s)
	}
	if token := pod.AutomountServiceAccountToken; token == nil || *token {
		t.Error("pods get a token of the cluster")
	}
	if links := pod.EnableServiceLinks; links == nil || *links {
		t.Error("pods get variables that look like ours")
	}
	for _, v := range pod.Volumes {
		if v.Secret.SecretName != "" && v.Secret.DefaultMode != 0o440 {
			t.Errorf("the secret has the mode %o", v.Secret.DefaultMode)
		}
	}
	if c.Resources.Limits["memory"] == "" || c.Resources.Requests["cpu"] == "" {
		t.Errorf("%+v", c.Resources)
	}
}

// What selects pods selects ours, the service leads to the public port, and to the internal one come those who are named.
func TestNobodyElseAtTheInternalPort(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	pods, ports := all["Deployment"].Spec.Template.Metadata.Labels, all["Deployment"].Spec.Template.Spec.Containers[0].Ports
	policy := all["NetworkPolicy"].Spec
	for key, label := range policy.PodSelector.MatchLabels {
		if pods[key] != label {
			t.Errorf("the policy is for %s=%s, and pods are %v", key, label, pods)
		}
	}
	if !slices.Equal(policy.PolicyTypes, []string{"Ingress"}) || len(policy.Ingress) != len(ports) {
		t.Fatalf("%+v", policy)
	}
	for i, rule := range policy.Ingress {
		if len(rule.Ports) != 1 || rule.Ports[0].Port != ports[i].ContainerPort {
			t.Errorf("rule %d is about %v", i, rule.Ports)
		}
		switch restricted := len(rule.From) == 1 && len(rule.From[0].PodSelector.MatchLabels) > 0; {
		case ports[i].Name == "internal" && !restricted:
			t.Errorf("everybody comes to the internal port: %v", rule)
		case ports[i].Name == "public" && rule.From != nil:
			t.Errorf("not everybody comes to the public port: %v", rule)
		}
	}
	if service := all["Service"].Spec.Ports; len(service) != 1 || service[0].TargetPort != "public" {
		t.Errorf("the service leads to %v", service)
	}
	if replicas, least := all["Deployment"].Spec.Replicas, all["PodDisruptionBudget"].Spec.MinAvailable; least < 1 || least >= replicas {
		t.Errorf("of %d pods %d must stay", replicas, least)
	}
}
