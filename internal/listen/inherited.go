package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// firstInherited is the first descriptor that a service manager hands over: SD_LISTEN_FDS_START.
const firstInherited = 3

// Inherited gives the listening sockets that a service manager has opened for this process, by
// their names: see sd_listen_fds(3). None, when there is no word of any. The variables are
// for this process alone, and are taken away.
//
// It is an error when a socket does not have one of the names, or is none that listens for
// TCP: the server must not serve at other places than it seems to.
func Inherited(names ...string) (map[string]net.Listener, error) {
	pid, count, labels := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil //nolint:nilnil // they are another process's
	}
	found := strings.Split(labels, ":")
	if n, err := strconv.Atoi(count); err != nil || n != len(found) {
		return nil, fmt.Errorf("LISTEN_FDS is %q and LISTEN_FDNAMES is %q: want as many names as sockets (FileDescriptorName=)", count, labels)
	}
	sockets := make(map[string]net.Listener)
	for i, name := range found {
		if err := inherit(sockets, names, name, firstInherited+i); err != nil {
			return nil, fmt.Errorf("the socket that was handed over as %q: %w", name, err)
		}
	}
	return sockets, nil
}

func inherit(sockets map[string]net.Listener, names []string, name string, descriptor int) error {
	switch {
	case !slices.Contains(names, name):
		return fmt.Errorf("want one of the names %s (FileDescriptorName=)", strings.Join(names, ", "))
	case sockets[name] != nil:
		return errors.New("there are two of the name")
	}
	file := os.NewFile(uintptr(descriptor), name)
	listener, err := net.FileListener(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if _, ok := listener.(*net.TCPListener); !ok {
		return errors.Join(errors.New("want one that listens for TCP"), listener.Close())
	}
	sockets[name] = listener
	return nil
}
