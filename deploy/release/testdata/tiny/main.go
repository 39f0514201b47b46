// Command tiny stands for a program in the tests of what is made of programs.
package main

func main() {}
