// The peer: how a registry in Go usually processes a layer. Files become a tar. The tar is hashed, and compressed by
// the standard library at its default level. The result is hashed and written.
//
//	pipeline OUTPUT PATH...
package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func add(archive *tar.Writer, path string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&os.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	header.Name = path[1:]
	header.ModTime = time.Unix(1, 0)
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	if err = archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(archive, file)
	return err
}

func main() {
	started := time.Now()
	output, err := os.Create(os.Args[1])
	check(err)
	buffered := bufio.NewWriterSize(output, 1<<20)
	digest, diffID := sha256.New(), sha256.New()
	compressor := gzip.NewWriter(io.MultiWriter(buffered, digest))
	counted := &counter{}
	archive := tar.NewWriter(io.MultiWriter(compressor, diffID, counted))
	for _, root := range os.Args[2:] {
		check(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			return add(archive, path, entry, err)
		}))
	}
	check(archive.Close())
	check(compressor.Close())
	check(buffered.Flush())
	check(output.Close())
	written, err := os.Stat(os.Args[1])
	check(err)
	fmt.Printf("{\"digest\":\"sha256:%x\",\"diff_id\":\"sha256:%x\",\"size\":%d,\"uncompressed\":%d,\"seconds\":%.3f}\n",
		digest.Sum(nil), diffID.Sum(nil), written.Size(), counted.bytes, time.Since(started).Seconds())
}

type counter struct{ bytes int64 }

func (c *counter) Write(bytes []byte) (int, error) {
	c.bytes += int64(len(bytes))
	return len(bytes), nil
}
